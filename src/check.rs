//! `check` of an image: a command that must succeed, or a server that must answer, in a container without a network.

use std::sync::Arc;
use std::time::Duration;
use twostage_builder::Context;
use twostage_engine::{LastLines, Network, Run, ServerTrial, Tried};
use twostage_model::project::{RuntimeImage, Until};
use twostage_model::{Class, Error, Result};

/// Lines of what failed that an error shows.
const SHOWN: usize = 20;

/// Runs an image's check, if it has one.
///
/// # Errors
/// Class `Verdict` when it fails, with the last lines of what it wrote.
pub async fn check(context: &Arc<Context>, image: &RuntimeImage, id: &str) -> Result<()> {
    match &image.until {
        None if image.check.is_empty() => Ok(()),
        None => command(context, image, id).await,
        Some(until) => server(context, image, id, until).await,
    }
}

async fn command(context: &Arc<Context>, image: &RuntimeImage, id: &str) -> Result<()> {
    let name = image.name.value.as_str();
    context.events.started(name, "running its check");
    let mut last = LastLines::default();
    let run = Run { network: Network::None, ..Run::new(id, &image.check) };
    let container = context
        .engine
        .run(run, &mut |line| {
            last.push(line);
            context.events.log(name, line);
        })
        .await;
    let failed = |why: String| failure(name, &image.check, &why);
    let container = container.map_err(|cause| failed("could not run".into()).because(cause))?;
    let status = container.exit_code;
    container.remove().await?;
    if status != 0 {
        return Err(failed(format!("failed (exit status {status})")).because(last.text(SHOWN)));
    }
    context.events.note(name, format!("check: {}", last.text(3).replace('\n', " / ")));
    Ok(())
}

async fn server(context: &Arc<Context>, image: &RuntimeImage, id: &str, until: &Until) -> Result<()> {
    let (name, address) = (image.name.value.as_str(), until.address.as_str());
    let command = match image.check.is_empty() {
        false => image.check.clone(),
        true => context.engine.image(id).await?.map(|image| [image.entrypoint, image.cmd].concat()).unwrap_or_default(),
    };
    if command.is_empty() {
        return Err(Error::new(Class::Verdict, format!("{name}: its check has nothing to run; nothing is tagged"))
            .hint("the image has neither entrypoint nor cmd: add one, or `run = [\"…\"]` to the check"));
    }
    context.events.started(name, &format!("waiting for {address}"));
    let mut last = LastLines::default();
    let asked = ServerTrial { port: until.port, path: until.path.as_deref(), timeout: until.timeout };
    let tried = context
        .engine
        .try_server(Run::new(id, &command), asked, &mut |line| {
            last.push(line);
            context.events.log(name, line);
        })
        .await;
    let failed = |why: String| failure(name, &command, &why);
    match tried.map_err(|cause| failed("could not run".into()).because(cause))? {
        Tried::Answered { after, killed } => {
            let end = if killed { "; it did not end at SIGTERM and was killed" } else { "" };
            context.events.note(name, format!("check: {address} answered after {:.1} s{end}", after.as_secs_f64()));
            Ok(())
        }
        Tried::Ended(status) => Err(failed(format!("ended (exit status {status}) before {address} answered")).because(said(&last))),
        Tried::Silent(why) => {
            let error = failed(format!("did not answer at {address} within {}", seconds(until.timeout)));
            Err(error.because(format!("{}\nlast try: {why}", said(&last))))
        }
    }
}

fn failure(name: &str, command: &[String], why: &str) -> Error {
    let hint = "correct `check` in the project file, or what it tests; it runs without a network, as the image's user";
    Error::new(Class::Verdict, format!("{name}: its check `{}` {why}; nothing is tagged", command.join(" "))).hint(hint)
}

/// The last lines that it wrote.
fn said(last: &LastLines) -> String {
    Some(last.text(SHOWN)).filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "it wrote nothing".to_string())
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        whole if whole % 1000 == 0 => format!("{} s", whole / 1000),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
