//! A broker, or bare QUIC with its settings, as a process of its own, so that what it takes is its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use millstream_broker::{Broker, Config};
use millstream_protocol::frame::FRAME_BYTES_MAX_ANONYMOUS;
use millstream_protocol::message::{Hello, HelloAck};
use millstream_transport::{Accepting, ClientTls, Connector, FrameReader, FrameWriter, Listener, Rpc, ServerTls};
use millstream_transport::{config, tls};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// The child's side: prints the address and serves until its stdin ends.
pub(crate) async fn serve(data_dir: PathBuf) -> Result<()> {
    let mut config = Config { io_threads: 2, shards: 2, ..Config::embedded(data_dir) };
    config.limits.connections_max = 100_000;
    let broker = Broker::start(config).await?;
    println!("{}", broker.quic_addr());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    broker.shutdown().await;
    Ok(())
}

/// The child's side without a broker: takes any `Hello`, then holds the connection and its stream. What that costs
/// is QUIC's own.
pub(crate) async fn serve_bare(data_dir: PathBuf) -> Result<()> {
    let folder = data_dir.join("tls");
    tls::generate_dev(&folder, &[])?;
    std::fs::write(data_dir.join("admin.token"), "any")?;
    let listener = Listener::bind("127.0.0.1:0".parse()?, &ServerTls::load(&folder)?)?;
    println!("{}", listener.local_addr()?);
    let accepting = listener.clone();
    tokio::spawn(async move {
        while let Some(client) = accepting.accept().await {
            tokio::spawn(hold(client));
        }
    });
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    listener.close("the end");
    Ok(())
}

async fn hold(client: Accepting) {
    // In a box of its own: what only the beginning needs is given back.
    let Ok((connection, _streams)) = Box::pin(greet(client)).await else { return };
    connection.closed().await;
}

async fn greet(client: Accepting) -> Result<(quinn::Connection, (FrameWriter, FrameReader))> {
    let connection = client.handshake().await?;
    let (send, receive) = connection.accept_bi().await?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let hello = reader.read(FRAME_BYTES_MAX_ANONYMOUS).await?.context("a Hello")?;
    config::admit(&connection);
    let ack = HelloAck {
        cluster_id: String::new(),
        node_id: 0,
        server_version: String::new(),
        frame_bytes_max: 0,
        batch_bytes_max: 0,
    };
    writer.respond::<Hello>(&hello.header, &ack, Vec::new()).await?;
    Ok((connection, (writer, reader)))
}
/// The parent's side.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) process: u32,
    token: String,
    connector: Connector,
    /// Ends with its stdin.
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Served {
    /// `what` is the name of a hidden command.
    pub(crate) async fn start(what: &str) -> Result<Arc<Served>> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(what).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let process = child.id().context("the broker ended at once")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the broker's stdout")?).read_line(&mut line).await?;
        let address: SocketAddr = line.trim().parse().with_context(|| format!("the broker said {line:?}"))?;
        let read = |name: &str| std::fs::read_to_string(Path::new(folder.path()).join(name));
        let tls = ClientTls { ca_pem: read("tls/ca.pem")?, server_name: "localhost".into() };
        let (token, connector) = (read("admin.token")?, Connector::new(address, &tls)?);
        Ok(Arc::new(Served { address, process, token, connector, _child: child, _folder: folder }))
    }

    /// A connection that said `Hello`.
    pub(crate) async fn connect(&self) -> Result<(quinn::Connection, Rpc)> {
        let connection = self.connector.connect(self.address).await?;
        let rpc = Rpc::open(&connection).await?;
        let hello = Hello { token: self.token.clone(), client_name: "hostile".into(), client_version: "0".into() };
        rpc.call(&hello).await?;
        Ok((connection, rpc))
    }
}
