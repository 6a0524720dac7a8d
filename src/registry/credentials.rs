//! The credentials that docker, podman and skopeo keep: read, never written, never shown.
//!
//! ```text
//! $REGISTRY_AUTH_FILE                            containers-auth.json(5)
//! $XDG_RUNTIME_DIR/containers/auth.json
//! ~/.config/containers/auth.json
//! $DOCKER_CONFIG/config.json, ~/.docker/config.json   docker-login(1)
//! ```
//!
//! The first file that knows the registry counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// What Docker Hub is called in these files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// `user:password` in base64.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

/// What a helper says.
#[derive(Deserialize)]
struct Secret {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// What this user has for a repository of a registry; anonymous if nothing.
pub async fn of(registry: &str, repository: &str) -> Result<RegistryAuth> {
    for path in files() {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(Error::system(format!("cannot read {}", path.display()), cause)),
        };
        // (serde's message would quote what stands there.)
        let file: File = serde_json::from_slice(&text).map_err(|error| {
            Error::new(Class::Usage, format!("{}, line {}: not as docker and podman write it", path.display(), error.line()))
        })?;
        if let Some(found) = within(&file, registry, repository, &path).await? {
            return Ok(found);
        }
    }
    Ok(RegistryAuth::Anonymous)
}

fn files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // As podman: a file that is named is the only one.
    if let Some(named) = variable("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    let home = variable("HOME").unwrap_or_default();
    let run = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers/auth.json");
    let docker = variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
    run.into_iter().chain([config, docker]).collect()
}

/// Names under which a file may have it, the closest first: `host/a/b`, `host/a`, `host`.
fn names(registry: &str, repository: &str) -> Vec<String> {
    let mut whole = format!("{registry}/{repository}");
    let mut names = vec![whole.clone()];
    while let Some((rest, _)) = whole.rsplit_once('/') {
        whole = rest.to_string();
        names.push(whole.clone());
    }
    names.extend([format!("https://{registry}"), format!("https://{registry}/v1/"), format!("https://{registry}/v2/")]);
    if registry.ends_with("docker.io") {
        names.extend(["docker.io".to_string(), "index.docker.io".to_string(), DOCKER_HUB.to_string()]);
    }
    names
}

async fn within(file: &File, registry: &str, repository: &str, path: &Path) -> Result<Option<RegistryAuth>> {
    let server = if registry.ends_with("docker.io") { DOCKER_HUB } else { registry };
    let names = names(registry, repository);
    if let Some(helper) = names.iter().find_map(|name| file.helpers.get(name)) {
        return ask(helper, server).await;
    }
    let entry = names.iter().find_map(|name| file.auths.get(name));
    if let Some(entry) = entry {
        if entry.identity_token.as_ref().is_some_and(|token| !token.is_empty()) {
            return Err(Error::new(
                Class::Usage,
                format!("{} has an identity token for {registry}, which cannot be used here", path.display()),
            )
            .hint("log in with a password or an access token"));
        }
        if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
            return Ok(Some(RegistryAuth::Basic(user.clone(), password.clone())));
        }
        if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let whole = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = whole.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) = pair.ok_or_else(|| {
                Error::new(Class::Usage, format!("{}: what it has for {registry} is no user and password", path.display()))
            })?;
            return Ok(Some(RegistryAuth::Basic(user.to_string(), password.trim_end_matches('\0').to_string())));
        }
    }
    match &file.store {
        Some(store) => ask(store, server).await,
        None => Ok(None),
    }
}

/// Asks `docker-credential-<helper> get`, which has the server's name on its input.
async fn ask(helper: &str, server: &str) -> Result<Option<RegistryAuth>> {
    let plain = !helper.is_empty() && helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let program = format!("docker-credential-{helper}");
    let fail = || format!("cannot ask {program} for the credentials of {server}");
    if !plain {
        return Err(Error::new(Class::Usage, format!("{helper:?} is no name of a credential helper")));
    }
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .or_fail(Class::Usage, fail)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(server.as_bytes()).await.or_fail(Class::System, fail)?;
    }
    let output = child.wait_with_output().await.or_fail(Class::System, fail)?;
    if !output.status.success() {
        // Helpers end so when they have nothing.
        return Ok(None);
    }
    let secret: Secret =
        serde_json::from_slice(&output.stdout).map_err(|_| Error::new(Class::Usage, format!("{program} says nothing readable")))?;
    if secret.username == "<token>" {
        return Err(Error::new(Class::Usage, format!("{program} has an identity token for {server}, which cannot be used here"))
            .hint("log in with a password or an access token"));
    }
    Ok(Some(RegistryAuth::Basic(secret.username, secret.secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str, registry: &str, repository: &str) -> Result<Option<RegistryAuth>> {
        let file: File = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("{error}"));
        runtime.block_on(within(&file, registry, repository, Path::new("auth.json")))
    }

    #[test]
    fn the_closest_entry_counts_as_podman_has_it() -> Result<()> {
        let text = r#"{"auths": {"r.example": {"auth": "YTpvbmU="}, "r.example/team": {"auth": "Yjp0d28="}, "https://index.docker.io/v1/": {"auth": "YzpodWI="}}}"#;
        let basic = |user: &str, password: &str| Some(RegistryAuth::Basic(user.into(), password.into()));
        assert_eq!(look(text, "r.example", "other/app")?, basic("a", "one"));
        assert_eq!(look(text, "r.example", "team/app")?, basic("b", "two"));
        assert_eq!(look(text, "index.docker.io", "library/debian")?, basic("c", "hub"));
        assert_eq!(look(text, "r.example.org", "team/app")?, None);
        Ok(())
    }

    #[test]
    fn what_cannot_be_used_is_said_without_showing_it() {
        let token = look(r#"{"auths": {"r": {"identitytoken": "topsecret"}}}"#, "r", "a").map(|_| ());
        assert!(
            token.as_ref().is_err_and(|error| error.what().contains("identity token") && !error.what().contains("topsecret")),
            "{token:?}"
        );
        let wrong = look(r#"{"auths": {"r": {"auth": "dG9wc2VjcmV0"}}}"#, "r", "a").map(|_| ());
        assert!(
            wrong.as_ref().is_err_and(|error| error.what().contains("no user and password") && !error.what().contains("topsecret")),
            "{wrong:?}"
        );
        let helper = look(r#"{"credHelpers": {"r": "../x"}}"#, "r", "a").map(|_| ());
        assert!(helper.is_err());
    }
}
