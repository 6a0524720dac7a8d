//! Files of a web server, by the program `curl`: many over one connection, each of a known size, none written by `curl`.
//!
//! The bodies come through one pipe, one behind the other, and what became of each on standard error:
//!
//! ```text
//! standard output  <the bytes of the first><the bytes of the second>…
//! standard error   #200 1234 ⏎ #200 99 ⏎ #302 0 https://elsewhere/third ⏎
//! ```
//!
//! No more is read than the sizes say. Redirects are not followed by `curl`, but here, after a look at where they lead:
//! a server out in the world must not send us to this machine, nor into its network ([`may_lead`]).

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use twostage_model::error::OrFail as _;
use twostage_model::url::{CURL_ARGUMENTS, curl_config, curl_config_of_many, shown};
use twostage_model::{Class, Error, Result, address};

/// Redirects of one file that are followed.
const MAX_REDIRECTS: u32 = 10;
/// How often a file is asked for, where the connection breaks or the server is overloaded.
const ATTEMPTS: u32 = 4;
/// Bytes of what `curl` says, at most.
const MAX_SAID: u64 = 1 << 20;
/// Exit statuses of `curl` that another attempt may mend: names, connections, times, cut answers, HTTP/2.
const PASSING: [i32; 11] = [5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92];
/// Exit status of `curl` where a file has more bytes than it may have.
const TOO_LARGE: i32 = 63;

/// A folder of a web server. It may be used by several threads at once, each with a connection of its own.
pub struct Remote {
    base: Mutex<Base>,
    /// How near the place is that a person named.
    nearness: Nearness,
}

/// Where the files are. It moves where the server says that all of it has moved.
#[derive(Clone)]
struct Base {
    /// Without a slash at its end.
    url: String,
    /// Those that its host had when it was looked up, once; none where only a proxy knows them.
    addresses: Vec<IpAddr>,
    /// For `curl`: host, port and the addresses that were looked at.
    pinned: Option<String>,
}

/// What is asked for.
pub struct Wanted {
    /// Its path below the folder, encoded for a URL.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

/// A file of which a server says that it is elsewhere.
struct Target {
    url: String,
    /// As that of [`Base`].
    pinned: Option<String>,
}

impl Remote {
    /// `url` is that of the folder.
    pub fn new(url: &str) -> Remote {
        let found = authority(url).and_then(|(host, port)| addresses(&host, port)).unwrap_or_default();
        Remote::at(url, found)
    }

    /// `addresses` are those of the URL's host.
    fn at(url: &str, addresses: Vec<IpAddr>) -> Remote {
        // Of several addresses the farthest counts: whoever answers for a name chooses them.
        let nearness = addresses.iter().map(|address| near(*address).unwrap_or(Nearness::Network)).min().unwrap_or(Nearness::World);
        // What is nearer than that is not asked either, unless there is nothing else.
        let far: Vec<IpAddr> = addresses.iter().copied().filter(|address| near(*address).is_some_and(|near| near <= nearness)).collect();
        let asked = match (far.is_empty(), addresses.is_empty()) {
            (false, _) => &far[..],
            (true, false) => &addresses,
            (true, true) => &[address::NOWHERE],
        };
        let pinned = authority(url).and_then(|(host, port)| pin(&host, port, asked));
        Remote { base: Mutex::new(Base { url: url.trim_end_matches('/').to_string(), addresses, pinned }), nearness }
    }

    fn base(&self) -> Base {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL of a file, for a message.
    pub fn shown(&self, path: &str) -> String {
        shown(&format!("{}/{path}", self.base().url))
    }

    /// A file of at most `most` bytes; nothing where the server has none of that name. `path` is encoded for a URL.
    ///
    /// # Errors
    /// It cannot be fetched, has more bytes, or the server leads elsewhere.
    pub fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let failed = || format!("cannot fetch {}", self.shown(path));
        let (mut attempts, mut redirects, mut target) = (0, 0, None);
        loop {
            let mut transfer = self.start(&[path], target.as_ref(), most)?;
            let mut bytes = Vec::new();
            let read = transfer.body(most).read_to_end(&mut bytes);
            let has_more = transfer.has_more();
            let said = transfer.end()?;
            read.or_fail(Class::System, failed)?;
            if has_more {
                return Err(too_large(failed(), most));
            }
            match said.outcome(0) {
                Outcome::Fine => return Ok(Some(bytes)),
                Outcome::Missing => return Ok(None),
                Outcome::TooLarge => return Err(too_large(failed(), most)),
                Outcome::Moved(to) => target = Some(self.follow(path, &to, &mut redirects)?),
                Outcome::Passing(why) => wait(&mut attempts, failed(), why)?,
                Outcome::Refused(why) => return Err(refused(failed(), why)),
            }
        }
    }

    /// Hands each file to `take`, in order. Where the connection breaks, it goes on with the file that it broke in.
    ///
    /// # Errors
    /// One cannot be fetched, has more bytes than stated, the server leads elsewhere; or what `take` says.
    pub fn files(&self, wanted: &[Wanted], mut take: impl FnMut(usize, &mut dyn Read) -> Result<()>) -> Result<()> {
        let (mut next, mut attempts, mut redirects, mut target) = (0, 0, 0, None);
        while let Some(left) = wanted.get(next..).filter(|left| !left.is_empty()) {
            let now = if target.is_some() { &left[..1] } else { left };
            let paths: Vec<&str> = now.iter().map(|file| file.path.as_str()).collect();
            let most = now.iter().map(|file| file.size).max().unwrap_or_default();
            let mut transfer = self.start(&paths, target.as_ref(), most)?;
            let (start, mut stopped, mut has_more) = (next, None, false);
            for file in now {
                let mut body = transfer.body(file.size);
                match take(next, &mut body) {
                    Ok(()) => (next, attempts, redirects) = (next + 1, 0, 0),
                    Err(error) => {
                        has_more = body.left < file.size;
                        stopped = Some(error);
                        break;
                    }
                }
            }
            target = None;
            has_more |= stopped.is_none() && transfer.has_more();
            let said = transfer.end()?;
            // The files that were taken were as long as was said, or what follows was not theirs.
            let taken = next - start;
            let longer = |at: usize| said.lines.get(at).is_none_or(|line| line.bytes > now[at].size);
            if let Some(at) = taken.checked_sub(1).filter(|at| has_more && longer(*at)) {
                return Err(too_large(format!("cannot fetch {}", self.shown(&now[at].path)), now[at].size));
            }
            let Some(error) = stopped else { continue };
            let path = &now[taken].path;
            let failed = || format!("cannot fetch {}", self.shown(path));
            match said.outcome(taken) {
                // What came was the whole of it, and whoever took it did not like it.
                Outcome::Fine => return Err(error),
                Outcome::TooLarge => return Err(too_large(failed(), now[taken].size)),
                Outcome::Moved(to) => target = Some(self.follow(path, &to, &mut redirects)?),
                Outcome::Passing(why) => wait(&mut attempts, failed(), why)?,
                Outcome::Refused(why) => return Err(refused(failed(), why)),
                Outcome::Missing => {
                    return Err(Error::new(Class::Repository, format!("{} is not there", self.shown(path)))
                        .hint("its index is newer or older than its files: run the same command again when the server has both"));
                }
            }
        }
        Ok(())
    }

    fn start(&self, paths: &[&str], target: Option<&Target>, most: u64) -> Result<Transfer> {
        let base = self.base();
        match target {
            Some(target) => Transfer::start(std::slice::from_ref(&target.url), target.pinned.as_deref(), most),
            None if base.addresses.is_empty() && !is_proxied() => {
                // A second look could find another one than that which redirects are compared with.
                let host = authority(&base.url).map_or_else(|| shown(&base.url), |(host, _)| host);
                let failed = format!("cannot fetch {}", self.shown(paths.first().copied().unwrap_or_default()));
                Err(refused(failed, format!("the address of {host} cannot be found")))
            }
            None => {
                let urls: Vec<String> = paths.iter().map(|path| format!("{}/{path}", base.url)).collect();
                Transfer::start(&urls, base.pinned.as_deref(), most)
            }
        }
    }

    /// Where a redirect leads, if it may lead there.
    fn follow(&self, path: &str, to: &str, redirects: &mut u32) -> Result<Target> {
        let is_proxied = is_proxied();
        self.follow_with(path, to, redirects, is_proxied)
    }

    /// `is_proxied` says whether a proxy may know hosts that this machine does not.
    fn follow_with(&self, path: &str, to: &str, redirects: &mut u32, is_proxied: bool) -> Result<Target> {
        let refused = |why: String| {
            Error::new(Class::Repository, format!("the redirect of {} is not followed", self.shown(path)))
                .because(why)
                .hint("if that place is meant, name it as the source itself")
        };
        *redirects += 1;
        if *redirects > MAX_REDIRECTS {
            return Err(refused(format!("there are more than {MAX_REDIRECTS} of them")));
        }
        let Some((host, port)) = authority(to) else { return Err(refused(format!("{} is no address of a web server", shown(to)))) };
        let base = self.base();
        let (there, at) = authority(&base.url).unwrap_or_default();
        // A host is looked up once: whoever answers for its name could say something else the next time.
        let found = match there == host && !base.addresses.is_empty() {
            true => Some(base.addresses.clone()),
            false => addresses(&host, port),
        };
        let (found, pinned) = match found {
            _ if there == host && at == port => (base.addresses.clone(), base.pinned.clone()),
            Some(found) if may_lead(self.nearness, &found) => {
                let pinned = pin(&host, port, &found);
                (found, pinned)
            }
            Some(_) => return Err(refused(format!("{} is nearer to this machine than the source is", shown(to)))),
            // Only the proxy knows where that host is.
            None if is_proxied => (Vec::new(), pin(&host, port, &[address::NOWHERE])),
            None => return Err(refused(format!("the address of {host} cannot be found"))),
        };
        let to = address::with_user(&base.url, to);
        // Where all files are elsewhere, not each of them is asked for here first.
        if let Some(moved) = to.strip_suffix(path).and_then(|base| base.strip_suffix('/')) {
            *self.base.lock().unwrap_or_else(PoisonError::into_inner) =
                Base { url: moved.to_string(), addresses: found, pinned: pinned.clone() };
        }
        Ok(Target { url: to, pinned })
    }
}

fn too_large(what: String, most: u64) -> Error {
    Error::new(Class::Repository, what)
        .because(format!("it has more than {most} bytes"))
        .hint("its index says otherwise; ask whoever runs the server")
}

fn refused(what: String, why: String) -> Error {
    Error::new(Class::Repository, what)
        .because(why)
        .hint("correct the URL; what is only reached through a proxy needs http_proxy or https_proxy")
}

/// Waits before the next attempt.
fn wait(attempts: &mut u32, what: String, why: String) -> Result<()> {
    *attempts += 1;
    if *attempts >= ATTEMPTS {
        return Err(Error::new(Class::System, what)
            .because(why)
            .hint("run the same command again when the server answers: what came is kept, and not fetched again"));
    }
    std::thread::sleep(Duration::from_millis(250 << (2 * (*attempts - 1))));
    Ok(())
}

/// One run of `curl`.
struct Transfer {
    child: Child,
    out: ChildStdout,
    ended: bool,
    said: Option<JoinHandle<String>>,
}

/// One file of it: no more than its bytes.
struct Body<'t> {
    transfer: &'t mut Transfer,
    left: u64,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.transfer.out.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.transfer.ended |= got == 0;
        self.left -= got as u64;
        Ok(got)
    }
}

impl Transfer {
    fn start(urls: &[String], pinned: Option<&str>, most: u64) -> Result<Transfer> {
        let failed = || "cannot run curl".to_string();
        let mut curl = Command::new("curl");
        curl.args(CURL_ARGUMENTS).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = curl.spawn().map_err(|cause| {
            let missing = cause.kind() == io::ErrorKind::NotFound;
            let error = Error::new(Class::System, failed()).because(cause);
            if missing { error.hint("install it: apt-get install curl") } else { error }
        })?;
        let (Some(mut stdin), Some(out), Some(err)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(Class::System, failed()));
        };
        let first = urls.first().map(String::as_str).unwrap_or_default();
        let told = curl_config(first, "http,https", most) + &curl_config_of_many(urls.iter().skip(1).map(String::as_str), pinned);
        // Where it has ended already it says why.
        let _ = stdin.write_all(told.as_bytes());
        drop(stdin);
        let listen = move || {
            let mut bytes = Vec::new();
            let mut err = err.take(MAX_SAID);
            let _ = err.read_to_end(&mut bytes);
            let _ = io::copy(&mut err.into_inner(), &mut io::sink());
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let said = std::thread::Builder::new().spawn(listen).or_fail(Class::System, failed)?;
        Ok(Transfer { child, out, ended: false, said: Some(said) })
    }

    fn body(&mut self, size: u64) -> Body<'_> {
        Body { transfer: self, left: size }
    }

    /// Whether anything follows what was read.
    fn has_more(&mut self) -> bool {
        !self.ended && matches!(self.body(1).read(&mut [0]), Ok(1))
    }

    /// Ends it, whatever it has still to say.
    fn end(mut self) -> Result<Said> {
        let code = match self.ended {
            true => self.child.wait().or_fail(Class::System, || "cannot wait for curl".into())?.code(),
            false => None,
        };
        // (A process that was told to end may hold its pipe no longer than that.)
        self.stop();
        let text = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Ok(Said::parse(&text, code))
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What became of the files.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    lines: Vec<Line>,
    /// Exit status; none where it was ended.
    code: Option<i32>,
    message: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    status: u16,
    bytes: u64,
    redirect: String,
}

/// What became of one file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Fine,
    Missing,
    TooLarge,
    Moved(String),
    /// Another attempt may be better.
    Passing(String),
    Refused(String),
}

impl Said {
    fn parse(text: &str, code: Option<i32>) -> Said {
        let mut said = Said { lines: Vec::new(), code, message: String::new() };
        for line in text.lines() {
            let mut words = line.strip_prefix('#').unwrap_or_default().splitn(3, ' ');
            let parsed = (|| {
                let (status, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                Some(Line { status, bytes, redirect: words.next().unwrap_or_default().trim().to_string() })
            })();
            match parsed {
                Some(line) => said.lines.push(line),
                None if line.trim().is_empty() => {}
                None => said.message = line.trim_start_matches("curl: ").to_string(),
            }
        }
        said
    }

    fn outcome(&self, at: usize) -> Outcome {
        let line = self.lines.get(at);
        let message = || match (self.message.is_empty(), line) {
            (false, _) => self.message.clone(),
            (true, Some(line)) => format!("the server answers {}", line.status),
            (true, None) => "the server says nothing".into(),
        };
        match (line.map(|line| line.status), self.code) {
            (_, Some(TOO_LARGE)) => Outcome::TooLarge,
            (Some(300..400), _) => match line.map(|line| line.redirect.clone()).filter(|to| !to.is_empty()) {
                Some(to) => Outcome::Moved(to),
                None => Outcome::Refused(message()),
            },
            (Some(404 | 410), _) => Outcome::Missing,
            (Some(429 | 500..600), _) => Outcome::Passing(message()),
            (Some(400..500), _) => Outcome::Refused(message()),
            // It was ended by whoever read it, or has gone on with the next.
            (_, None | Some(0)) => Outcome::Fine,
            (_, Some(_)) if self.lines.len() > at + 1 => Outcome::Fine,
            (_, Some(code)) if PASSING.contains(&code) => Outcome::Passing(message()),
            (_, Some(_)) => Outcome::Refused(message()),
        }
    }
}

/// A path as a part of a URL. `keeps_percent`: it is encoded already, as far as whoever wrote it thought of that.
pub fn encoded(path: &str, keeps_percent: bool) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            b'%' if keeps_percent => text.push('%'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// How near an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    World,
    /// A network that only this machine's neighbours reach.
    Network,
    Here,
}

/// How near an address is; nothing for one that no file is fetched from: of a link, where clouds tell machines their secrets, of
/// many, of none.
fn near(address: IpAddr) -> Option<Nearness> {
    let address = address::plain(address);
    if address::is_hidden(address) {
        return None;
    }
    let (is_here, is_network) = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            if v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || a == 0 || a >= 240 {
                return None;
            }
            let is_shared = a == 100 && (64..128).contains(&b);
            (v4.is_loopback(), v4.is_private() || is_shared)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            if v6.is_unspecified() || v6.is_multicast() || first & 0xffc0 == 0xfe80 {
                return None;
            }
            (v6.is_loopback(), first & 0xfe00 == 0xfc00)
        }
    };
    Some(match (is_here, is_network) {
        (true, _) => Nearness::Here,
        (_, true) => Nearness::Network,
        _ => Nearness::World,
    })
}

/// Whether a server that is so near may lead to these addresses: to none that is nearer than itself.
fn may_lead(from: Nearness, to: &[IpAddr]) -> bool {
    !to.is_empty() && to.iter().all(|address| near(*address).is_some_and(|there| there <= from))
}

fn addresses(host: &str, port: u16) -> Option<Vec<IpAddr>> {
    let found: Vec<IpAddr> = (host.trim_matches(['[', ']']), port).to_socket_addrs().ok()?.map(|address| address.ip()).collect();
    Some(found).filter(|found| !found.is_empty())
}

/// What tells `curl` that a host has these addresses and no others. One that is named by its address needs none.
fn pin(host: &str, port: u16, addresses: &[IpAddr]) -> Option<String> {
    if addresses.is_empty() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return None;
    }
    let each = addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    Some(format!("{host}:{port}:{}", each.collect::<Vec<_>>().join(",")))
}

/// Whether a proxy may be what looks names up. (Where `curl` uses none for a host after all, its addresses are pinned nevertheless.)
fn is_proxied() -> bool {
    let names = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Host and port of an http or https URL. One with anything in its host that could be read in two ways has none.
fn authority(url: &str) -> Option<(String, u16)> {
    let host = address::host(url)?;
    let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.to_ascii_lowercase() };
    Some((name, host.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_server_leads_to_nothing_that_is_nearer_than_itself() {
        for (from, to, may) in [
            (Nearness::World, "93.184.216.34", true),
            (Nearness::World, "2606:2800::1", true),
            (Nearness::World, "127.0.0.1", false),
            (Nearness::World, "::1", false),
            (Nearness::World, "::ffff:127.0.0.1", false),
            (Nearness::World, "64:ff9b::7f00:1", false),
            (Nearness::World, "10.0.0.1", false),
            (Nearness::World, "172.16.3.4", false),
            (Nearness::World, "192.168.1.1", false),
            (Nearness::World, "100.64.0.1", false),
            (Nearness::World, "fd00::1", false),
            (Nearness::Network, "10.0.0.1", true),
            (Nearness::Network, "127.0.0.1", false),
            (Nearness::Network, "169.254.169.254", false),
            (Nearness::Here, "127.0.0.1", true),
            (Nearness::Here, "169.254.169.254", false),
            (Nearness::World, "168.63.129.16", false),
            (Nearness::World, "168.63.129.17", true),
            (Nearness::Network, "100.100.100.200", false),
            (Nearness::Network, "100.100.100.201", true),
            (Nearness::Here, "100.100.100.200", false),
            (Nearness::Here, "fd00:ec2::254", false),
            (Nearness::Here, "fd00:ec2::255", true),
            (Nearness::World, "64:ff9b::a83f:8110", false),
            (Nearness::Here, "fe80::1", false),
            (Nearness::Here, "0.0.0.0", false),
            (Nearness::Here, "::", false),
            (Nearness::Here, "224.0.0.1", false),
        ] {
            assert_eq!(may_lead(from, &[ip(to)]), may, "{from:?} to {to}");
        }
        assert!(!may_lead(Nearness::World, &[ip("93.184.216.34"), ip("127.0.0.1")]), "all of them count");
        assert!(!may_lead(Nearness::Here, &[]));
    }

    #[test]
    fn a_source_stays_where_its_name_was_found() {
        let of = |addresses: &[&str]| Remote::at("http://deb.invalid/debian/", addresses.iter().map(|text| ip(text)).collect());
        let follow = |remote: &Remote, to: &str| {
            remote.follow("a.deb", to, &mut 0).map(|target| target.pinned.unwrap_or_default()).map_err(|error| error.causes().join("; "))
        };
        let world = of(&["93.184.216.34", "2606:2800::1"]);
        assert_eq!(world.base().pinned.as_deref(), Some("deb.invalid:80:93.184.216.34,[2606:2800::1]"));
        // The name is not asked for again: it has no address.
        assert_eq!(follow(&world, "http://deb.invalid/b.deb").as_deref(), Ok("deb.invalid:80:93.184.216.34,[2606:2800::1]"));
        assert_eq!(follow(&world, "https://deb.invalid/x").as_deref(), Ok("deb.invalid:443:93.184.216.34,[2606:2800::1]"));
        // Everything moves to another port, and back.
        assert!(follow(&world, "https://deb.invalid/new/a.deb").is_ok());
        assert_eq!((world.base().url.as_str(), world.base().addresses.len()), ("https://deb.invalid/new", 2));
        assert_eq!(follow(&world, "http://deb.invalid/x").as_deref(), Ok("deb.invalid:80:93.184.216.34,[2606:2800::1]"));
        assert!(follow(&world, "http://127.0.0.1/x").unwrap_err().contains("is nearer to this machine"));

        // A name that is here, too: that address is not asked, and no other port of it.
        let mixed = of(&["127.0.0.1", "93.184.216.34"]);
        assert_eq!(mixed.base().pinned.as_deref(), Some("deb.invalid:80:93.184.216.34"));
        assert_eq!(follow(&mixed, "http://deb.invalid/x").as_deref(), Ok("deb.invalid:80:93.184.216.34"));
        assert!(follow(&mixed, "http://deb.invalid:2375/x").unwrap_err().contains("is nearer to this machine"));
        // A metadata service is one on each of its ports.
        let cloud = of(&["169.254.169.254"]);
        assert!(follow(&cloud, "http://deb.invalid:8080/x").unwrap_err().contains("is nearer to this machine"));

        for (host, addresses, pinned) in [("127.0.0.1", vec![ip("127.0.0.1")], None), ("[::1]", vec![ip("::1")], None), ("h", vec![], None)]
        {
            assert_eq!(pin(host, 80, &addresses), pinned, "{host}");
        }
    }

    /// What only the proxy knows is left to it, and `curl` looks nothing up.
    #[test]
    fn a_proxy_needs_no_names_of_ours() {
        let remote = Remote::at("http://deb.invalid/debian/", Vec::new());
        let nowhere = "deb.invalid:80:[100::1]";
        assert_eq!(remote.base().pinned.as_deref(), Some(nowhere));
        let follow =
            |to: &str, is_proxied| remote.follow_with("a.deb", to, &mut 0, is_proxied).map(|target| target.pinned.unwrap_or_default());
        assert_eq!(follow("http://deb.invalid/x", true).expect("it may"), nowhere);
        assert_eq!(follow("http://cdn.invalid/x", true).expect("it may"), "cdn.invalid:80:[100::1]");
        assert!(follow("http://cdn.invalid/x", false).is_err(), "without one it is nowhere");
        assert!(follow("http://169.254.169.254/x", true).is_err() && follow("http://127.0.0.1/x", true).is_err());
    }

    /// `curl` itself goes to the address that was found, where the name has none, and where it follows to another port.
    #[test]
    fn every_request_goes_to_the_address_that_was_found() {
        if is_proxied() {
            return;
        }
        let serve = |answer: String| {
            let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = server.local_addr().expect("an address").port();
            let answering = std::thread::spawn(move || {
                let (mut stream, _) = server.accept().expect("a request");
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            });
            (port, answering)
        };
        let (last, second) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi".into());
        let moved = format!("http://deb.invalid:{last}/there");
        let (port, first) = serve(format!("HTTP/1.1 302 Found\r\nLocation: {moved}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        let remote = Remote::at(&format!("http://deb.invalid:{port}"), vec![ip("127.0.0.1")]);
        assert_eq!(remote.get("here", 10).expect("an answer").as_deref(), Some(b"hi".as_slice()));
        first.join().expect("asked once");
        second.join().expect("asked once");
        let lost = Remote::at("http://deb.invalid", Vec::new()).get("x", 10).unwrap_err();
        assert_eq!(lost.causes(), ["the address of deb.invalid cannot be found"]);
    }

    #[test]
    fn a_password_goes_to_the_server_that_it_is_for_only() {
        let remote = Remote::at("http://me:x@deb.invalid/debian/", vec![ip("93.184.216.34")]);
        assert_eq!(
            remote.follow("a.deb", "http://deb.invalid/new/a.deb", &mut 0).expect("it may").url,
            "http://me:x@deb.invalid/new/a.deb"
        );
        assert_eq!(remote.base().url, "http://me:x@deb.invalid/new", "and so does all that follows");
        assert_eq!(remote.follow("a.deb", "https://deb.invalid/a.deb", &mut 0).expect("it may").url, "https://deb.invalid/a.deb");
    }

    #[test]
    fn a_host_is_read_in_one_way() {
        let of = |url: &str| authority(url).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(of("http://Host/x").as_deref(), Some("host 80"));
        assert_eq!(of("HTTPS://u:p@host:8443?x").as_deref(), Some("host 8443"));
        assert_eq!(of("http://[::1]:81/").as_deref(), Some("[::1] 81"));
        assert_eq!(of("https://[fe80::1]").as_deref(), Some("[fe80::1] 443"));
        for bad in
            ["ftp://h/", "file:///etc/passwd", "http:///x", "http://a\\@b/", "http://a b/", "http://::1/", "http://h:99999/", "//h/x"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
        // What other programs take for an address is one.
        assert_eq!(addresses("2130706433", 80), Some(vec![ip("127.0.0.1")]));
    }

    #[test]
    fn what_curl_says_is_understood() {
        let said = |text: &str, code| Said::parse(text, code);
        let one = said("#200 12 \n#302 0 http://h/x\ncurl: (47) Maximum (0) redirects followed\n", Some(47));
        assert_eq!((one.outcome(0), one.outcome(1)), (Outcome::Fine, Outcome::Moved("http://h/x".into())));
        assert_eq!(said("curl: (22) The requested URL returned error: 404\n#404 0 \n", Some(22)).outcome(0), Outcome::Missing);
        assert!(matches!(said("#503 0 \n", Some(22)).outcome(0), Outcome::Passing(_)));
        assert!(matches!(said("#403 0 \n", Some(22)).outcome(0), Outcome::Refused(_)));
        assert_eq!(said("curl: (7) Failed to connect\n#000 0 \n", Some(7)).outcome(0), Outcome::Passing("(7) Failed to connect".into()));
        assert!(matches!(said("#200 5 \ncurl: (18) cut\n", Some(18)).outcome(0), Outcome::Passing(_)));
        assert_eq!(said("#200 0 \n", Some(63)).outcome(0), Outcome::TooLarge);
        assert_eq!(said("", None).outcome(0), Outcome::Fine);
        assert!(matches!(said("", Some(2)).outcome(0), Outcome::Refused(_)));
    }

    #[test]
    fn a_path_is_a_part_of_a_url() {
        assert_eq!(encoded("pool/g++/a_1%3a2~x?#[1].deb", false), "pool/g%2B%2B/a_1%253a2~x%3F%23%5B1%5D.deb");
        assert_eq!(encoded("a%20b^1.rpm", true), "a%20b%5E1.rpm");
    }
}
