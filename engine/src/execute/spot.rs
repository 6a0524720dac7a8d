//! Places in a stage's container: where a path leads, what is missing on the way, who a user is.

use crate::dockerfile::values;
use crate::{Container, Found};
use twostage_image::Tarball;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Links that are followed before a path is called endless; as Linux.
const MAX_LINKS: usize = 40;
/// Bytes of `/etc/passwd` or `/etc/group`, at most.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// Where a path of a container leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The path with its last link followed, no slash at either end; the root is empty.
    pub path: String,
    /// Whether a folder is there, or something else; none if nothing is.
    pub there: Option<bool>,
    /// The folders that are missing above it, the highest first.
    pub missing: Vec<String>,
}

impl Spot {
    /// Follows a path within a container.
    ///
    /// # Errors
    /// Something on the way is no folder, or the links never end.
    pub async fn of(container: &Container, path: &str) -> Result<Spot> {
        let mut path = path.trim_matches('/').to_string();
        for _ in 0..MAX_LINKS {
            if path.is_empty() {
                return Ok(Spot { path, there: Some(true), missing: Vec::new() });
            }
            match container.find(&format!("/{path}")).await? {
                Some(Found { link: Some(target), .. }) => path = followed(&path, &target),
                Some(found) => return Ok(Spot { path, there: Some(found.folder), missing: Vec::new() }),
                None => return Spot::below(container, &path).await,
            }
        }
        Err(Error::new(Class::Project, format!("the links of /{path} never end")).hint("name the place itself"))
    }

    /// A path at which nothing is, by its folder.
    async fn below(container: &Container, path: &str) -> Result<Spot> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = Box::pin(Spot::of(container, folder)).await?;
        let path = format!("{}/{name}", above.path).trim_matches('/').to_string();
        Ok(Spot { path, there: None, missing: above.as_folder()? })
    }

    /// All that is missing if this is to be a folder.
    ///
    /// # Errors
    /// Something else is there.
    pub fn as_folder(&self) -> Result<Vec<String>> {
        let mut missing = self.missing.clone();
        match self.there {
            Some(true) => {}
            None => missing.push(self.path.clone()),
            Some(false) => {
                return Err(Error::new(Class::Project, format!("/{} in the image is no folder", self.path)).hint("name another folder"));
            }
        }
        Ok(missing)
    }
}

/// Where a link leads: Docker says it from the root, others as it is written.
fn followed(link: &str, target: &str) -> String {
    let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
    values::join(folder, target).trim_matches('/').to_string()
}

/// Owner and group of `user`, `user:group`, names or numbers, as the container knows them; empty is root.
///
/// # Errors
/// It knows no such user or group.
pub async fn owner(container: &Container, text: &str) -> Result<(u64, u64)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let (uid, mut gid) = match user.parse::<u32>() {
        Ok(uid) => (u64::from(uid), u64::from(uid)),
        Err(_) if matches!(user, "" | "root") => (0, 0),
        Err(_) => account(&accounts(container, "/etc/passwd").await?, user, true).ok_or_else(|| unknown("user", user, "/etc/passwd"))?,
    };
    match group {
        None => {}
        // (`app:` is root's group, as in BuildKit.)
        Some("") => gid = 0,
        Some(group) => match group.parse::<u32>() {
            Ok(number) => gid = u64::from(number),
            Err(_) if group == "root" => gid = 0,
            Err(_) => {
                let found = account(&accounts(container, "/etc/group").await?, group, false);
                gid = found.ok_or_else(|| unknown("group", group, "/etc/group"))?.0;
            }
        },
    }
    Ok((uid, gid))
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::new(Class::Project, format!("there is no {what} {name} in {file} of the image"))
        .hint("make it in a RUN before, or write its number")
}

/// Number and, of a user, primary group of an account.
fn account(text: &str, name: &str, user: bool) -> Option<(u64, u64)> {
    let line = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))?;
    let number = |at: usize| line.get(at)?.parse::<u32>().ok().map(u64::from);
    Some((number(2)?, if user { number(3)? } else { 0 }))
}

/// A list of accounts; empty if the container has none.
async fn accounts(container: &Container, path: &str) -> Result<String> {
    let spot = Spot::of(container, path).await?;
    if spot.there != Some(false) {
        return Ok(String::new());
    }
    let tar = container.copy_out(&format!("/{}", spot.path)).await?;
    let fail = move || format!("cannot read /{} of the container", spot.path);
    crate::blocking(move || {
        let mut tarball = Tarball::new(tar);
        let mut text = Vec::new();
        if tarball.next()?.is_some_and(|header| header.kind == b'0' && header.size <= MAX_ACCOUNTS) {
            std::io::Read::read_to_end(&mut tarball, &mut text).or_fail(Class::Engine, fail)?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_they_say_and_never_out() {
        assert_eq!(followed("a/b", "/x/y"), "x/y");
        assert_eq!(followed("a/b", "c"), "a/c");
        assert_eq!(followed("a/b", "../../../c/./d"), "c/d");
    }

    #[test]
    fn accounts_are_found_by_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\napp:x:1000:1001::/:/bin/sh\n";
        assert_eq!(account(passwd, "app", true), Some((1000, 1001)));
        assert_eq!(account(passwd, "broken", true), None);
        assert_eq!(account("web:x:7:\n", "web", false), Some((7, 0)));
    }
}
