//! `twostage serve`: the repository over HTTP, until it is told to stop.

use crate::cli::{ProjectArgs, Serve};
use crate::output::Output;
use crate::session::Session;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};
use twostage_reposerver::Server;

pub async fn run(arguments: &Serve, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open_shared(project, output)?;
    let listen = match arguments.listen {
        Some(listen) => listen,
        None => session.project.repository.listen.parse().or_fail(Class::Project, || "`listen` is no address".to_string())?,
    };
    more_files();
    let server = Server::start(session.repository.clone(), &[listen], None).await?;
    for address in server.addresses() {
        let channel = &session.project.repository.channel;
        let text = format!("serving http://{address}/  (client file: http://{address}/{channel}.sources)");
        output.result(&text, &serde_json::json!({ "event": "serving", "address": address.to_string() }));
    }
    // Who started it waits for that line.
    output.written()?;
    wait_for_signal().await?;
    server.stop().await;
    Ok(())
}

/// Files that a server can make use of.
const MOST_FILES: u64 = 1 << 16;

/// Lets this process open as many files as it may: a shell gives 1,024, and a connection takes one, or two.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.unwrap_or(u64::MAX).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < enough) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(enough), maximum: limit.maximum });
    }
}

async fn wait_for_signal() -> Result<()> {
    let failed = || "cannot wait for a signal".to_string();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).or_fail(Class::System, failed)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.or_fail(Class::System, failed),
        _ = terminate.recv() => Ok(()),
    }
}
