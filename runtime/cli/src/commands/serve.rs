//! `serve`: a broker until SIGINT or SIGTERM. Settings: flag, then environment, then file, then default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use millstream_broker::{Broker, Config, HttpDoor, LogFormat};
use millstream_pipeline::diagnostic::of_settings;

use crate::args::Context;
use crate::commands::block_on;
use crate::console::Console;
use crate::ending::StopSignals;
use crate::problem::{Exit, Problem};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  millstream serve --data-dir data
  millstream serve --config config/broker.yaml
  millstream serve --config config/broker.yaml --check")]
pub(crate) struct Args {
    #[command(flatten)]
    settings: SettingArgs,
    /// Read and check the settings, and exit
    #[arg(long)]
    check: bool,
}

/// Where settings come from.
#[derive(Debug, clap::Args)]
pub(crate) struct SettingArgs {
    /// Configuration file; config/broker.yaml has every key, commented
    #[arg(long, env = "MILLSTREAM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The one folder this broker owns [default: millstream-data]
    #[arg(long, env = "MILLSTREAM_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect by QUIC [default: 127.0.0.1:9094]
    #[arg(long, env = "MILLSTREAM_QUIC", value_name = "ADDRESS")]
    quic: Option<SocketAddr>,
    /// Where metrics and health are, by HTTP, or `off` [default: 127.0.0.1:9096]
    #[arg(long, env = "MILLSTREAM_HTTP", value_name = "ADDRESS")]
    http: Option<HttpDoor>,
}

impl SettingArgs {
    /// The settings that a flag or a variable of the environment gave, and which.
    pub(crate) fn given(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            ("data_dir", "--data-dir", "MILLSTREAM_DATA_DIR", self.data_dir.is_some()),
            ("quic", "--quic", "MILLSTREAM_QUIC", self.quic.is_some()),
            ("http", "--http", "MILLSTREAM_HTTP", self.http.is_some()),
        ];
        let words: Vec<String> = std::env::args().collect();
        let is_flag = |flag: &str| words.iter().any(|word| word.split('=').next() == Some(flag));
        let given = all.into_iter().filter(|(_, _, _, given)| *given);
        given.map(|(name, flag, variable, _)| (name, if is_flag(flag) { flag } else { variable })).collect()
    }
}

/// A stop takes no longer than this, whatever hangs.
const STOP_MAX: Duration = Duration::from_millis(4_500);

pub(crate) fn run(args: Args, context: &Context) -> Result<()> {
    let (config, _) = settings(&args.settings)?;
    if args.check {
        let from = args.settings.config.as_deref().map_or("the defaults".to_owned(), |file| file.display().to_string());
        context.console.verb(
            "Valid",
            &format!("{from}: quic {}, http {}, data in {}", config.quic, config.http, config.data_dir.display()),
        );
        return Ok(());
    }
    block_on(serve(config, context.clone()))
}

async fn serve(config: Config, context: Context) -> Result<()> {
    let start = Instant::now();
    let data_dir = config.data_dir.clone();
    let broker = Broker::start(config).await.map_err(refused)?;
    let what = format!("quic {}, data in {}", broker.quic_addr(), data_dir.display());
    context.console.timed("Broker", &what, start.elapsed());
    say_where_http_is(&broker, &context.console);
    let mut signals = StopSignals::new()?;
    signals.next().await;
    context.console.verb("Stopping", "requests in flight are finished, a second signal stops at once");
    tokio::select! {
        () = broker.shutdown() => Ok(()),
        () = signals.next() => Ok(()),
        () = tokio::time::sleep(STOP_MAX) => {
            let late = Problem::failure("the disk did not take everything in time: not every log was closed");
            Err(late.help("nothing that was acknowledged is lost; the next start checks the logs").into())
        }
    }
}

/// Where metrics and health are, if anywhere.
pub(crate) fn say_where_http_is(broker: &Broker, console: &Console) {
    if let Some(address) = broker.http_addr() {
        console.verb("Metrics", &format!("http://{address}/metrics  health at /health/ready"));
    }
}

impl Args {
    /// What the configuration file says, if it says so and can be read: logging begins before settings are read, and
    /// what is wrong with the file is told then.
    pub(crate) fn log_format(&self) -> Option<LogFormat> {
        #[derive(serde::Deserialize)]
        struct Peek {
            log_format: Option<LogFormat>,
        }
        let text = std::fs::read_to_string(self.settings.config.as_ref()?).ok()?;
        serde_yaml::from_str::<Peek>(&text).ok()?.log_format
    }
}

/// The broker's own words say what to do; the code says that trying again won't help.
pub(crate) fn refused(error: millstream_broker::StartError) -> anyhow::Error {
    let text = error.to_string();
    match text.split_once(": ") {
        // Cause, then advice: `data folder data is in use by process 17: stop it, or …`.
        Some((cause, advice)) if advice.starts_with("stop it") => {
            Problem::new(Exit::Refused, cause).help(advice).into()
        }
        _ => Problem::new(Exit::Refused, text).into(),
    }
}

/// What a broker runs with, and what the file says of it.
///
/// # Errors
/// The file can't be read, or has a mistake.
pub(crate) fn settings(args: &SettingArgs) -> Result<(Config, Option<serde_json::Value>)> {
    let (mut config, file) = match &args.config {
        Some(file) => (read(file)?, serde_yaml::from_str(&std::fs::read_to_string(file)?).ok()),
        None => (Config::default(), None),
    };
    if let Some(data_dir) = &args.data_dir {
        tracing::debug!(value = %data_dir.display(), "data_dir comes from --data-dir or MILLSTREAM_DATA_DIR");
        config.data_dir.clone_from(data_dir);
    }
    if let Some(quic) = args.quic {
        tracing::debug!(value = %quic, "quic comes from --quic or MILLSTREAM_QUIC");
        config.quic = quic;
    }
    if let Some(http) = args.http {
        tracing::debug!(value = %http, "http comes from --http or MILLSTREAM_HTTP");
        config.http = http;
    }
    Ok((config, file))
}

fn read(file: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found(format!("there is no file {}", file.display())),
        _ => Problem::failure(format!("{}: {error}", file.display())),
    })?;
    // A file in which everything is commented out is the defaults.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    let config: Config = serde_yaml::from_str(&text).map_err(|error| {
        of_settings(&file.to_string_lossy(), &text, &error, "config/broker.yaml lists every setting")
    })?;
    tracing::debug!(file = %file.display(), ?config, "settings of the file over the defaults");
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting is in the commented file, with its default.
    #[test]
    fn the_commented_configuration_is_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/broker.yaml");
        let config = read(&file).unwrap();
        let own = Config { data_dir: config.data_dir.clone(), register_profile: false, ..Config::default() };
        assert_eq!(config, own);
        let text = std::fs::read_to_string(&file).unwrap();
        let all = serde_json::to_value(Config::default()).unwrap();
        let mut settings: Vec<String> = all.as_object().unwrap().keys().cloned().collect();
        for section in ["topics", "limits"] {
            settings.extend(all[section].as_object().unwrap().keys().cloned());
        }
        for setting in settings {
            assert!(text.contains(&format!("{setting}:")), "`{setting}` is missing");
        }
    }
}
