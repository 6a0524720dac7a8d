//! URLs of sources: what `curl` and `git` fetch, and what they may be.
//!
//! A URL may hold a password, and arguments are for all of the machine to see: so it is told on standard input, as a
//! configuration (curl(1), `--config`), and shown without it.

use std::fmt::Write as _;

/// Arguments of `curl` that let it take all else from what [`curl_config`] gives, and nothing from the user's own
/// configuration: `--disable` counts only as the first.
pub const CURL_ARGUMENTS: [&str; 3] = ["--disable", "--config", "-"];

/// Redirects that are followed; as Docker does.
const MAX_REDIRECTS: u32 = 10;
/// Seconds in which a server has to answer.
const CONNECT: u32 = 30;
/// Seconds that it may send less than 100 bytes a second.
const STALLED: u32 = 60;
/// Seconds in which all has to be there.
const ALL: u32 = 21_600;

/// What `curl` is told on its standard input to fetch a URL of these protocols (`http,https`). More bytes than
/// `max_bytes` are refused where the server says their number beforehand. Redirects go to http and https only.
pub fn curl_config(url: &str, protocols: &str, max_bytes: u64) -> String {
    format!(
        "fail\nsilent\nshow-error\ngloboff\npath-as-is\nlocation\nproto = \"={protocols}\"\nproto-redir = \"=http,https\"\n\
         max-redirs = {MAX_REDIRECTS}\nconnect-timeout = {CONNECT}\nspeed-limit = 100\nspeed-time = {STALLED}\nmax-time = {ALL}\n\
         max-filesize = {max_bytes}\nurl = \"{}\"\n",
        escaped(url)
    )
}

/// More of [`curl_config`], for several URLs in one call, one after the other over one connection: the first that fails ends
/// it, a redirect is an error and not followed, and of each URL a line `#STATUS BYTES REDIRECT` goes to standard error.
/// `pinned` is `HOST:PORT:ADDRESS`, which says what the host's address is.
pub fn curl_config_of_many<'a>(more: impl Iterator<Item = &'a str>, pinned: Option<&str>) -> String {
    let mut told = String::from("fail-early\nmax-redirs = 0\nwrite-out = \"%{stderr}#%{http_code} %{size_download} %{redirect_url}\\n\"\n");
    if let Some(pinned) = pinned {
        let _ = writeln!(told, "resolve = \"{}\"", escaped(pinned));
    }
    for url in more {
        let _ = writeln!(told, "url = \"{}\"", escaped(url));
    }
    told
}

/// Whether a URL of http, https or ftp holds a user's name or password. (In `ssh://git@host` it is no secret.)
pub fn has_password(url: &str) -> bool {
    let secret = ["http://", "https://", "ftp://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    secret && without_user(url) != url
}

/// A URL, or the target of a request, for a message or a log: without the user's name and password, and without the
/// query, where tokens are.
pub fn shown(url: &str) -> String {
    let shown = without_user(url);
    match shown.split_once('?') {
        Some((path, _)) => format!("{path}?…"),
        None => shown,
    }
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => url.to_owned(),
    }
}

/// Where a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// On a server.
    Remote,
    /// On this machine, where this path says.
    Local(&'a str),
}

/// Where a tarball is.
///
/// # Errors
/// Why it is no URL of http, https or file.
pub fn tarball_place(url: &str) -> std::result::Result<Place<'_>, &'static str> {
    if let Some(path) = local(url)? {
        return Ok(Place::Local(path));
    }
    match url.split_once("://") {
        Some(("http" | "https", rest)) if has_host(rest) => Ok(Place::Remote),
        Some(("http" | "https", _)) => Err("names no host"),
        _ => Err("is not an http, https or file URL"),
    }
}

/// Where a git repository is. Git knows many more kinds of URLs, among them some that name a program to run
/// (gitremote-helpers(7), `ext::`).
///
/// # Errors
/// Why it is none of git's own four (http, https, ssh, git), nor `host:path`, nor a path.
pub fn git_place(url: &str) -> std::result::Result<Place<'_>, &'static str> {
    if url.starts_with('-') {
        return Err("begins as an option does");
    }
    if let Some(path) = local(url)? {
        return Ok(Place::Local(path));
    }
    let start = url.split('/').next().unwrap_or_default();
    let remote = match url.split_once("://") {
        Some(("http" | "https" | "ssh" | "git", rest)) => has_host(rest),
        Some(_) => return Err("is not an http, https, ssh, git or file URL"),
        None if start.contains("::") => return Err("names a program of git's to run"),
        None => match url.split_once(':').filter(|_| start.contains(':')) {
            Some((host, path)) => has_host(host) && !path.is_empty() && !path.starts_with('-'),
            None if url.is_empty() => return Err("is empty"),
            None => return Ok(Place::Local(url)),
        },
    };
    match remote {
        true if url.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Place::Remote),
        true => Err("has a character that no URL has"),
        false => Err("names no host"),
    }
}

/// The path of a `file` URL.
fn local(url: &str) -> std::result::Result<Option<&str>, &'static str> {
    if url.chars().any(char::is_control) {
        return Err("has a control character");
    }
    match url.split_once("://") {
        Some(("file", rest)) => match rest.strip_prefix("localhost").unwrap_or(rest) {
            path if path.starts_with('/') => Ok(Some(path)),
            _ => Err("names a host, where a file URL has three slashes"),
        },
        _ => Ok(None),
    }
}

/// Whether there is a host that no program takes for an option, in front of a path.
fn has_host(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, host) = rest[..end].rsplit_once('@').unwrap_or(("x", &rest[..end]));
    !user.starts_with('-') && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
}

/// A URL with nothing in it that no URL holds, nor anything that ends a quoted value of `curl`'s configuration.
fn escaped(url: &str) -> String {
    let mut escaped = String::new();
    for byte in url.bytes() {
        match byte {
            b'"' | b'\\' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f.. => {
                let _ = write!(escaped, "%{byte:02X}");
            }
            _ => escaped.push(char::from(byte)),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_value_of_a_configuration() {
        assert_eq!(escaped("http://h/a b?c=%20&d=\"\n-o x"), "http://h/a%20b?c=%20&d=%22%0A-o%20x");
        assert_eq!(escaped("http://h/ä\\[1-9]{a,b}"), "http://h/%C3%A4%5C[1-9]%7Ba,b%7D");
        let config = curl_config("http://h/\"\noutput = \"/etc/passwd", "http,https", 5);
        assert_eq!(
            config.lines().filter(|line| line.starts_with("url")).collect::<Vec<_>>(),
            ["url = \"http://h/%22%0Aoutput%20=%20%22/etc/passwd\""]
        );
        assert!(config.contains("\nmax-filesize = 5\n") && !config.contains("\noutput"), "{config}");
    }

    #[test]
    fn a_git_repository_is_on_a_server_or_a_path_and_never_a_program() {
        for remote in
            ["https://h/x.git", "http://h:8080/x", "ssh://git@h:22/x.git", "git://h/x", "git@h:team/x.git", "h:x", "ssh://[::1]/x"]
        {
            assert_eq!(git_place(remote), Ok(Place::Remote), "{remote}");
        }
        for (local, path) in
            [("file:///srv/x.git", "/srv/x.git"), ("/srv/x.git", "/srv/x.git"), ("vendor/x.git", "vendor/x.git"), ("./a:b", "./a:b")]
        {
            assert_eq!(git_place(local), Ok(Place::Local(path)), "{local}");
        }
        for bad in [
            "",
            "--upload-pack=touch /tmp/x",
            "-x",
            "ext::sh -c touch% /tmp/x",
            "fd::17",
            "transport::address",
            "ext://x",
            "EXT::sh",
            "ftp://h/x",
            "rsync://h/x",
            "HTTPS://h/x",
            "ssh://-oProxyCommand=touch/x",
            "ssh://git@-oProxyCommand=touch/x",
            "ssh://-l@h/x",
            "-oProxyCommand=touch:x",
            "git@-oProxyCommand=touch:x",
            "h:-x",
            "https:///x",
            "https://h/x\n",
            "https://h/x y",
            "/srv/x\n.git",
            "file://h/x",
            "file://",
        ] {
            assert!(git_place(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tarball_is_on_a_server_or_a_path() {
        assert_eq!(tarball_place("https://h/x.tar.gz"), Ok(Place::Remote));
        assert_eq!(tarball_place("file:///srv/x.tar.gz"), Ok(Place::Local("/srv/x.tar.gz")));
        for bad in [
            "/etc/shadow",
            "-x",
            "file://etc/shadow",
            "FILE:///etc/shadow",
            "scp://h/x",
            "http://",
            "http:///x",
            "http://-x/",
            "file:///a\u{85}",
        ] {
            assert!(tarball_place(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("https://me:secret@h:1/x@y"), "https://…@h:1/x@y");
        assert_eq!(shown("http://h/x@y"), "http://h/x@y");
        assert_eq!(shown("me@h:x"), "me@h:x");
        assert_eq!(shown("https://me:secret@h/x?token=secret#secret"), "https://…@h/x?…");
        assert_eq!((shown("/x?secret"), shown("/x")), ("/x?…".into(), "/x".into()));
        assert!(!has_password("https://h/x?y"));
        assert!(has_password("https://token@h/x") && has_password("HTTP://me:secret@h"));
        assert!(!has_password("https://h/x@y") && !has_password("ssh://git@h/x") && !has_password("git@h:x"));
    }
}
