//! `twostage export --plain FOLDER --url URL`: a channel as plain files, for any web server or bucket.

use crate::cli::{Export, ProjectArgs};
use crate::commands::channel::snapshot;
use crate::output::Output;
use crate::session::Session;
use twostage_model::shown::{count, size};
use twostage_model::url::has_password;
use twostage_model::{Class, Error, Result};
use twostage_reposerver::PlainSource;

pub fn run(arguments: &Export, project: &ProjectArgs, output: &Output) -> Result<()> {
    let (Some(folder), Some(url)) = (&arguments.plain, &arguments.url) else {
        return Err(Error::new(Class::Usage, "there is nothing to write").hint("name an archive, or --plain and --url"));
    };
    check_url(url)?;
    let session = Session::open_shared(project, output)?;
    let repository = &session.repository;
    let name = arguments.channel.as_deref().unwrap_or(&session.project.repository.channel);
    let id = name.starts_with('@').then(|| snapshot(repository, "", name)).transpose()?;
    let source = id.as_ref().map_or(PlainSource::Channel(name), PlainSource::Snapshot);
    let after = arguments.remove_after.map(|minutes| i64::from(minutes) * 60);
    let exported = repository.export_plain(source, folder, url, after, session.now)?;
    let asked = after.is_some();
    if exported.left > 0 && !asked {
        let (what, verb) = (count(exported.left, "file"), if exported.left == 1 { "is" } else { "are" });
        let note = format!("{what} of earlier exports {verb} still there; `--remove-after 60` removes what has not been named for an hour");
        output.sink().note("export", note);
    }
    let removed = if exported.removed > 0 { format!(", {} removed", count(exported.removed, "file")) } else { String::new() };
    let written = match exported.written {
        0 => "nothing to write".to_string(),
        some => format!("{} written ({})", count(some, "file"), size(exported.bytes)),
    };
    output.result(
        &format!("{}  @{}  {}, {written}{removed}", folder.display(), exported.snapshot.short(), count(exported.files, "file")),
        &serde_json::json!({
            "event": "exported", "folder": folder, "url": url, "snapshot": exported.snapshot, "files": exported.files,
            "written": exported.written, "bytes": exported.bytes, "removed": exported.removed, "left": exported.left,
        }),
    );
    Ok(())
}

/// It stands in client files, which have one value a line, and which everybody reads.
fn check_url(url: &str) -> Result<()> {
    let refused = |why: &str, hint: &str| Err(Error::new(Class::Usage, format!("--url {why}")).hint(hint));
    let known = ["http://", "https://", "file:///"].iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    if !known || !url.chars().all(|c| c.is_ascii_graphic() && !"\"'<>{}\\^`|#?".contains(c)) {
        return refused("is no address that a client file can have", "write http://HOST/PATH, https://HOST/PATH or file:///PATH");
    }
    if has_password(url) {
        return refused(
            "has a name or a password, and everybody reads it in the client files",
            "leave them out; clients have files for them",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_word_without_a_secret() {
        for good in ["http://a.example/x", "http://[::1]:80/", "https://a.example:8443/x/el$releasever/", "file:///srv/debs"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        let line = "http://a.example/\nTrusted: yes";
        for bad in ["", "a.example/x", "http://", "ftp://a.example/", "http://a b/", line, "http://u:p@a.example/", "http://a/?x"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
