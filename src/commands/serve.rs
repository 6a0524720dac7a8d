//! `twostage serve`: the repository over HTTP, until it is told to stop.

use crate::cli::Serve;
use crate::output::Output;
use crate::session::Session;
use std::path::Path;
use std::sync::Arc;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};
use twostage_reposerver::Server;

pub async fn run(arguments: &Serve, project: &Path, output: &Output) -> Result<()> {
    let session = Session::open_shared(project, output)?;
    let listen = match arguments.listen {
        Some(listen) => listen,
        None => session.project.repository.listen.parse().or_fail(Class::Project, || "`listen` is no address".to_string())?,
    };
    let events = output.sink();
    let access: twostage_reposerver::http::Access = Arc::new(move |entry: &twostage_reposerver::AccessEntry| {
        events.log("access", &format!("{} {} {} {} {}", entry.peer.ip(), entry.method, entry.target, entry.status, entry.sent));
    });
    let server = Server::start(session.repository.clone(), &[listen], Some(access)).await?;
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

async fn wait_for_signal() -> Result<()> {
    let failed = || "cannot wait for a signal".to_string();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).or_fail(Class::System, failed)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.or_fail(Class::System, failed),
        _ = terminate.recv() => Ok(()),
    }
}
