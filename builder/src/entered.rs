//! The container of a component's build as an image, so that somebody can enter it: where a build failed, or before it began.

use crate::Context;
use std::sync::Arc;
use twostage_engine::Container;
use twostage_model::{Error, Format, Result, Sha256};

/// What is run in such an image.
const SHELL: &str = include_str!("../scripts/shell.sh");

/// The image of the container in which a component's build failed.
pub fn failed(context: &Context, name: &str) -> String {
    format!("twostage-entered:{}-{}", context.id, Sha256::of(name.as_bytes()).short())
}

/// That of one in which its build has not begun.
pub fn prepared(context: &Context, name: &str) -> String {
    format!("{}-prepared", failed(context, name))
}

/// How a build goes on in there.
pub fn resume(format: Format) -> &'static str {
    match format {
        Format::Deb => "dpkg-buildpackage --no-pre-clean --unsigned-changes --build=binary",
        Format::Rpm => "rpmbuild --define '_topdir /build/rpm' -bi --noprep SPEC",
    }
}

/// What is run there: a command with the build's environment in its folder, or a shell.
pub fn command(command: &[String]) -> Vec<String> {
    let shell = ["/bin/sh".to_string(), "-c".to_string(), SHELL.to_string(), "twostage".to_string()];
    shell.into_iter().chain(command.iter().cloned()).collect()
}

/// Keeps a container as an image.
pub(crate) async fn keep(container: &Container, image: &str) -> Result<()> {
    container.commit(image, &["LABEL twostage.entered=true".to_string()]).await.map(drop)
}

/// Keeps the container in which a build failed, if that is wanted. Gives the build's error, which tells of it.
pub(crate) async fn keep_failed(context: &Context, name: &str, container: Container, error: Error) -> Error {
    let log = error.hint_text().unwrap_or_default().to_string();
    let hint = if context.keep_failed {
        match keep(&container, &failed(context, name)).await {
            Ok(()) => format!("`twostage shell {name}` enters the container where it stopped; {log}"),
            Err(cause) => format!("{log}; its container could not be kept: {cause}"),
        }
    } else {
        format!("{log}; with --keep-failed, `twostage shell {name}` enters the container where it stopped")
    };
    // What failed is said, not what could not be removed.
    let _ = container.remove().await;
    error.hint(hint)
}

/// Removes an image, if it is there.
///
/// # Errors
/// The engine does not answer, or a container uses it.
pub async fn forget(context: &Arc<Context>, image: &str) -> Result<()> {
    // (To look costs less than to change something, and as a rule nothing is there.)
    if context.engine.image(image).await?.is_some() {
        context.engine.remove_image(image).await?;
    }
    Ok(())
}
