//! `millstream dev`: a project while it is worked on. An embedded broker (`local`), the project's plugins and
//! pipelines in it (`deploy`), its inputs fed (`feed`), its outputs printed (`tail`), its files watched
//! (`watch`), and a line that sums it up (`status`). `session` owns all of these and loops over their events.

mod deploy;
mod feed;
mod local;
mod pipeline;
mod plugin;
mod session;
mod status;
mod tail;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use millstream_broker::HttpDoor;

use crate::bundle;
use crate::console::Console;
use crate::ending::{stdout_closed, stop_signal};
use crate::manifest::Project;
use crate::plugin_source;
use local::Local;
use session::Session;

/// Compiled plugins of earlier runs that are kept.
const MACHINE_CODE_KEPT: usize = 16;

/// What `dev` is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) folder: PathBuf,
    pub(crate) quic: SocketAddr,
    pub(crate) http: HttpDoor,
    pub(crate) data_dir: PathBuf,
    pub(crate) feed: Feed,
    /// Delete the data of earlier runs first.
    pub(crate) fresh: bool,
    /// Counted from when everything runs.
    pub(crate) stop_after: Option<Duration>,
    pub(crate) once: bool,
    /// Builds may download nothing.
    pub(crate) offline: bool,
}

/// Whether inputs are fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Feed {
    /// Each input once per data folder.
    #[default]
    Once,
    /// Also what was fed before.
    Again,
    Never,
}

/// Runs the project until ctrl-c, SIGTERM, or what `options` say.
///
/// # Errors
/// The project or its broker does not start; with `once`, also when a plugin or pipeline does not work.
pub(crate) async fn run(options: Options, console: Console) -> Result<()> {
    let project = Project::load(&options.folder)?;
    prepare(&project, &options, &console)?;
    let local = Local::start(&options, &console).await?;
    let mut session = Session::new(options, project, local.server().clone(), console.clone());
    let result = tokio::select! {
        result = Box::pin(session.run()) => result,
        signal = stop_signal() => signal,
        () = stdout_closed() => Ok(()),
    };
    console.clear_status();
    if result.is_ok() {
        session.sum_up().await;
    }
    drop(session);
    local.stop(&console).await;
    result
}

/// Sees to what the plugins are built with before anything starts; blocks while something is installed.
fn prepare(project: &Project, options: &Options, console: &Console) -> Result<()> {
    for plugin in &project.manifest.plugins {
        plugin_source::prepare(&project.path(plugin), options.offline, console)?;
    }
    // Each save of a plugin in JavaScript or Python has left some 30 MB there. The folder may not be there yet.
    plugin_source::prune(&options.data_dir.join("cache"), MACHINE_CODE_KEPT).ok();
    bundle::tell_age(&options.folder, console)
}
