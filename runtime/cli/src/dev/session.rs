//! The loop of `dev`: one owner for everything of the project that runs, and every event that moves it.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::deploy::{Deployment, create_topics};
use super::feed::{Feeder, Note, fed_line};
use super::status::{Status, Totals};
use super::tail::Tails;
use super::watch::{Change, Watcher};
use super::{Feed, Options};
use crate::connect::Server;
use crate::console::{Console, Tone};
use crate::manifest::Project;
use crate::problem::{Exit, Problem, Shown, explain};

/// How often the status is looked at; a pipe gets a line at most every [`LINE_EVERY`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: u32 = 6;
/// Lines of each input that new code is shown on, from all over the file.
const TRIED_LINES: u64 = 50;
/// `--once` looks this often, and gives up when nothing moves for [`STALLED_AFTER`].
const CAUGHT_UP_EVERY: Duration = Duration::from_millis(50);
const STALLED_AFTER: Duration = Duration::from_secs(30);

pub(super) struct Session {
    options: Options,
    console: Console,
    server: Server,
    project: Project,
    deployment: Deployment,
    status: Status,
    tails: Tails,
    note: Note,
    /// Inputs being fed: label and lines.
    feeds: JoinSet<(String, Result<u64>)>,
    /// Lines of inputs that were fed before, being fed again.
    tries: JoinSet<(String, Result<u64>)>,
    /// The status that was printed last, where lines are printed.
    printed: Totals,
    looks: u32,
    started: bool,
}

impl Session {
    pub(super) fn new(options: Options, project: Project, server: Server, console: Console) -> Self {
        let deployment = Deployment::new(&project, options.offline, server.clone(), console.clone());
        let status = Status::new(server.clone(), console.clone());
        let tails = Tails::new(server.clone(), console.clone());
        let note = Note::read(&options.data_dir);
        let (feeds, tries, printed) = (JoinSet::new(), JoinSet::new(), Totals::default());
        Session {
            options,
            console,
            server,
            project,
            deployment,
            status,
            tails,
            note,
            feeds,
            tries,
            printed,
            looks: 0,
            started: false,
        }
    }

    /// Brings the project up and keeps up with it, to the end of `--once` or `--for`, or for ever.
    ///
    /// # Errors
    /// It does not come up, a part of it can't be read, or with `--once`: it does not work.
    pub(super) async fn run(&mut self) -> Result<()> {
        // Watched first: what is saved during the first build is built next.
        let mut watcher = Watcher::start(self.deployment.layout(&self.project))?;
        create_topics(&self.project, &self.server, &self.console, false).await?;
        self.tails.follow(&self.project.manifest.tail).await?;
        self.deployment.start(&self.project).await?;
        watcher.set_layout(self.deployment.layout(&self.project))?;
        self.start_feeds();
        self.started = true;
        if self.options.once {
            return self.once().await;
        }
        self.keep_up(&mut watcher).await
    }

    async fn keep_up(&mut self, watcher: &mut Watcher) -> Result<()> {
        let stop_at = self.options.stop_after.map(|after| Instant::now() + after);
        let deadline =
            async { if let Some(at) = stop_at { sleep_until(at).await } else { std::future::pending().await } };
        tokio::pin!(deadline);
        let mut enters = enters();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut deadline => return Ok(()),
                changes = watcher.changes() => {
                    self.console.clear_status();
                    self.changed(&changes?).await?;
                    watcher.set_layout(self.deployment.layout(&self.project))?;
                }
                Some(fed) = self.feeds.join_next() => {
                    if let Err(error) = self.fed(fed.context("feeding an input")?) {
                        self.tell(&error);
                    }
                }
                Some(tried) = self.tries.join_next() => {
                    if let Err(error) = self.tried(tried.context("feeding an input again")?) {
                        self.tell(&error);
                    }
                }
                Some(()) = enters.recv() => self.start_tries(),
                result = self.tails.failed() => result?,
                _ = look.tick() => self.look().await?,
            }
        }
    }

    /// Catches up with saved files, whatever state they are in.
    async fn changed(&mut self, changes: &BTreeSet<Change>) -> Result<()> {
        if changes.contains(&Change::Manifest)
            && let Err(error) = self.manifest_changed().await
        {
            self.tell(&error);
            self.console.toned(Tone::Warn, "Keeping", &format!("{}  as it was", self.project.manifest.project));
        }
        match self.deployment.update(&self.project, changes).await {
            // The sample may be through: what is saved shall show.
            Ok(true) => self.start_tries(),
            Ok(false) => {}
            Err(error) => self.tell(&error),
        }
        Ok(())
    }

    async fn manifest_changed(&mut self) -> Result<()> {
        let now = Project::load(&self.options.folder)?;
        create_topics(&now, &self.server, &self.console, true).await?;
        self.tails.follow(&now.manifest.tail).await?;
        let (old, new) = (&self.project.manifest, &now.manifest);
        let mut later = Vec::new();
        if old.plugins != new.plugins {
            later.push("plugins");
        }
        if old.inputs != new.inputs {
            later.push("inputs");
        }
        if !later.is_empty() {
            self.console.warn(&format!("other {} take effect when dev is started again", later.join(" and ")));
        }
        // The plugins that are watched are those of the start.
        let plugins = old.plugins.clone();
        self.project = now;
        self.project.manifest.plugins = plugins;
        Ok(())
    }

    fn tell(&self, error: &anyhow::Error) {
        if !error.is::<Shown>() {
            explain(&self.console, error);
        }
    }

    fn start_feeds(&mut self) {
        for input in &self.project.manifest.inputs {
            let feeder = Feeder::new(self.server.client.clone(), &self.project, input, &self.options);
            let label = feeder.label();
            if self.note.wants(&label, self.options.feed) {
                self.feeds.spawn(async move { (label, feeder.run().await) });
            } else if self.options.feed == Feed::Once {
                self.console.verb("Input", &format!("{label}  fed before, `--feed again` repeats it"));
            }
        }
    }

    /// Feeds some lines again of the inputs that are not being fed.
    fn start_tries(&mut self) {
        if self.options.feed == Feed::Never || !self.feeds.is_empty() || !self.tries.is_empty() {
            return;
        }
        for input in &self.project.manifest.inputs {
            let feeder = Feeder::new(self.server.client.clone(), &self.project, input, &self.options);
            let label = feeder.label();
            self.tries.spawn(async move { (label, feeder.some(TRIED_LINES).await) });
        }
    }

    fn tried(&mut self, (label, lines): (String, Result<u64>)) -> Result<()> {
        let lines = lines?;
        if lines > 0 {
            self.console.verb("Trying", &format!("{}  again", fed_line(&label, lines)));
        }
        Ok(())
    }

    fn fed(&mut self, (label, lines): (String, Result<u64>)) -> Result<()> {
        let lines = lines?;
        self.console.verb("Input", &fed_line(&label, lines));
        self.note.add(&label)
    }

    async fn look(&mut self) -> Result<()> {
        let totals = self.status.look(&self.deployment.pipeline_names()).await?;
        if self.console.is_live() {
            self.console.status(&format!(
                "{}          save a file to swap it, enter to feed again, ctrl-c to stop",
                totals.line()
            ));
            return Ok(());
        }
        self.looks += 1;
        if totals != self.printed && self.looks >= LINE_EVERY {
            self.console.line(&totals.line());
            self.printed = totals;
            self.looks = 0;
        }
        Ok(())
    }

    /// Waits for the inputs to be fed, handled and printed.
    async fn once(&mut self) -> Result<()> {
        while let Some(fed) = self.feeds.join_next().await {
            self.fed(fed.context("feeding an input")?)?;
        }
        let names = self.deployment.pipeline_names();
        let mut before = self.status.look(&names).await?;
        let mut moved = Instant::now();
        loop {
            sleep(CAUGHT_UP_EVERY).await;
            let now = self.status.look(&names).await?;
            // Twice the same: what one pipeline wrote has reached the next.
            if now == before && now.lag == 0 {
                break;
            }
            if self.status.any_stopped() {
                return Err(Shown(Exit::Failure).into());
            }
            if now != before {
                moved = Instant::now();
            } else if moved.elapsed() > STALLED_AFTER {
                return Err(Problem::failure(format!("the pipelines stand still: {}", now.line()))
                    .help("millstream dev, then millstream pipeline describe NAME shows each task")
                    .into());
            }
            before = now;
        }
        self.tails.caught_up().await?;
        if self.deployment.is_broken() || self.status.any_stopped() {
            return Err(Shown(Exit::Failure).into());
        }
        Ok(())
    }

    /// The last line: what the pipelines did in this run.
    pub(super) async fn sum_up(&mut self) {
        if self.started
            && let Ok(totals) = self.status.look(&self.deployment.pipeline_names()).await
        {
            self.console.line(&totals.line());
        }
    }
}

/// Each line that somebody types at the terminal; nothing elsewhere.
fn enters() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    if std::io::stdin().is_terminal() {
        // It blocks for as long as the process lives.
        std::thread::spawn(move || {
            for _line in std::io::stdin().lines().map_while(Result::ok) {
                if sender.blocking_send(()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}
