//! What the server says to clients that are careful, old, broken or hostile.

use crate::common::{Served, Shop, deb, now, publish, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use twostage_model::Sha256;
use twostage_reposerver::FIXED_HOST;
use twostage_reposerver::http::Limits;

/// A shop with one package of a few hundred kilobytes on channel main, served.
pub fn open() -> (Shop, Served, String, Vec<u8>) {
    let shop = Shop::new();
    // Digits of a simple generator: they do not compress much, so that the body has several frames.
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 24
    };
    let content: String = (0..30_000).map(|_| format!("{:x}", next())).collect();
    let bytes = deb("big", "1.0", "all", "", &content);
    assert!(bytes.len() > 150 << 10);
    let package = shop.repo.pool().ingest(&bytes[..], "big").unwrap();
    publish(&shop.repo, "main", "g", &[&package], 1_700_000_000).unwrap();
    let digest = package.sha256.to_string();
    let path = format!("/main/pool/{}/{digest}/big_1.0_all.deb", &digest[..2]);
    let served = Served::new(&shop.repo);
    (shop, served, path, bytes)
}

/// A package of one large file, not packed.
pub fn large_deb(size: usize) -> Vec<u8> {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("DEBIAN")).unwrap();
    let control = "Package: large\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@example.invalid>\nDescription: a test\n";
    std::fs::write(root.join("DEBIAN/control"), control).unwrap();
    std::fs::write(root.join("content"), vec![0; size]).unwrap();
    let out = dir.path().join("out.deb");
    run(std::process::Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).arg(&root).arg(&out));
    std::fs::read(out).unwrap()
}

#[test]
fn every_page_has_its_type_and_its_caching() {
    let (shop, served, deb, _) = open();
    let id = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    let immutable = "public, max-age=31536000, immutable";
    for (path, kind, caching) in [
        ("/".to_string(), "text/html; charset=utf-8", "no-cache"),
        ("/healthz".into(), "text/plain; charset=utf-8", "no-cache"),
        ("/key.asc".into(), "application/pgp-keys", "no-cache"),
        ("/main.sources".into(), "text/plain; charset=utf-8", "no-cache"),
        ("/main".into(), "text/plain; charset=utf-8", "no-cache"),
        ("/main/".into(), "text/plain; charset=utf-8", "no-cache"),
        ("/main/dists/twostage/InRelease".into(), "text/plain; charset=utf-8", "no-cache"),
        ("/main/dists/twostage/Release.gpg".into(), "application/pgp-signature", "no-cache"),
        ("/main/dists/twostage/main/binary-amd64/Packages.gz".into(), "application/gzip", "no-cache"),
        (format!("/@{id}/dists/twostage/main/binary-amd64/Packages.zst"), "application/zstd", immutable),
        (format!("/@{id}/dists/twostage/InRelease"), "text/plain; charset=utf-8", "no-cache"),
        (format!("/@{id}/SHA256SUMS"), "text/plain; charset=utf-8", immutable),
        (format!("/@{id}.sources"), "text/plain; charset=utf-8", "no-cache"),
        (deb, "application/vnd.debian.binary-package", immutable),
    ] {
        let answer = served.get(&path, &[]);
        assert_eq!((answer.status, answer.header("content-type"), answer.header("cache-control")), (200, kind, caching), "{path}");
        assert_eq!(answer.header("etag"), format!("\"{}\"", answer.digest()), "{path}");
        let head = served.ask("HEAD", &path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), answer.body.len().to_string(), "{path}");
    }
    let list = served.get(&format!("/@{id}/SHA256SUMS"), &[]);
    assert_eq!(list.digest(), id.0, "anyone can check a snapshot's name");
    for path in [
        "/nothing",
        "/nothing.sources",
        "/main/nothing",
        "/main/pool/00/11/x.deb",
        "/main/dists/other/InRelease",
        "/main/dists",
        "/favicon.ico",
    ] {
        assert_eq!(served.get(path, &[]).status, 404, "{path}");
    }
    served.stop();
}

#[test]
fn parts_of_a_large_file_are_the_parts_of_that_file() {
    let (_shop, served, path, bytes) = open();
    let n = bytes.len();
    assert_eq!(served.get(&path, &[]).body, bytes);
    for (range, first, last) in [
        ("0-0".to_string(), 0, 0),
        ("0-65535".into(), 0, 65_535),
        ("65535-65537".into(), 65_535, 65_537),
        (format!("{}-", n - 1), n - 1, n - 1),
        ("1000-".into(), 1000, n - 1),
        ("-70000".into(), n - 70_000, n - 1),
        (format!("5-{}", n * 2), 5, n - 1),
    ] {
        let part = served.get(&path, &[&format!("Range: bytes={range}")]);
        assert_eq!((part.status, part.header("content-range")), (206, format!("bytes {first}-{last}/{n}").as_str()), "{range}");
        assert_eq!(part.body, bytes[first..=last], "{range}");
    }
    let beyond = served.get(&path, &[&format!("Range: bytes={n}-")]);
    assert_eq!((beyond.status, beyond.header("content-range"), beyond.body.len()), (416, format!("bytes */{n}").as_str(), 0));
    assert_eq!(served.get(&path, &["Range: bytes=0-1,5-6"]).body, bytes, "several ranges: the whole is allowed");
    assert_eq!(served.ask("HEAD", &path, &["Range: bytes=0-1"]).header("content-length"), n.to_string());
    let etag = format!("\"{}\"", Sha256::of(&bytes));
    assert_eq!(served.get(&path, &["Range: bytes=0-1", &format!("If-Range: {etag}")]).status, 206);
    assert_eq!(served.get(&path, &["Range: bytes=0-1", "If-Range: \"another\""]).status, 200);
    served.stop();
}

#[test]
fn an_unchanged_file_is_not_sent_again_and_a_changed_channel_is() {
    let (shop, served, _, _) = open();
    let path = "/main/dists/twostage/InRelease";
    let first = served.get(path, &[]);
    let (etag, date) = (first.header("etag").to_string(), first.header("last-modified").to_string());
    assert_eq!(date, "Tue, 14 Nov 2023 22:13:20 GMT");
    for header in [format!("If-None-Match: {etag}"), format!("If-None-Match: \"x\", W/{etag}"), format!("If-Modified-Since: {date}")] {
        let again = served.get(path, &[&header]);
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, etag.as_str()), "{header}");
    }
    assert_eq!(served.get(path, &["If-None-Match: \"x\"", &format!("If-Modified-Since: {date}")]).status, 200);
    // Another process publishes; this server sees it at the next request, although the clock stood still.
    let other = shop.again();
    let package = other.pool().ingest(&deb("more", "1", "all", "", "x")[..], "more").unwrap();
    publish(&other, "main", "h", &[&package], 1_700_000_000).unwrap();
    let later = served.get(path, &[&format!("If-None-Match: {etag}"), &format!("If-Modified-Since: {date}")]);
    assert_eq!(later.status, 200);
    assert_eq!(served.get(path, &[&format!("If-Modified-Since: {date}")]).status, 200, "the date of a channel only grows");
    served.stop();
}

#[test]
fn a_client_in_the_middle_of_an_update_still_finds_what_its_inrelease_names() {
    let (shop, served, _, _) = open();
    let release = served.get("/main/dists/twostage/Release", &[]).text();
    let names: Vec<String> =
        release.lines().filter(|l| l.starts_with(' ')).map(|l| l.split_whitespace().next().unwrap().to_string()).collect();
    assert_eq!(names.len(), 3);
    for i in 0..3 {
        let package = shop.add(&format!("later{i}"), "1", "x");
        shop.publish("main", &format!("g{i}"), &[&package]).unwrap();
    }
    for name in &names {
        let path = format!("/main/dists/twostage/main/binary-amd64/by-hash/SHA256/{name}");
        let answer = served.get(&path, &[]);
        assert_eq!((answer.status, answer.digest().to_string()), (200, name.clone()));
        assert!(answer.header("cache-control").contains("immutable"));
        assert_eq!(served.get(&path.replace("binary-amd64", "binary-arm64"), &[]).status, 404);
    }
    served.stop();
}

/// Whoever holds old metadata gets what it names, after more publishes than a channel remembers and from any
/// channel; what no metadata names is in the pool only.
#[test]
fn a_package_is_served_once_metadata_names_it_and_for_ever() {
    let (shop, served, first, bytes) = open();
    let location = |package: &twostage_reposerver::PoolPackage| {
        let digest = package.sha256.to_string();
        format!("pool/{}/{digest}/{}", &digest[..2], package.file_name())
    };
    let package = shop.add("waiting", "1", "x");
    let path = location(&package);
    assert_eq!(served.get(&format!("/main/{path}"), &[]).status, 404);
    // To a builder's snapshot, and not to others.
    let builders = shop.repo.snapshots().transient(&[package.sha256], now()).unwrap();
    assert_eq!(served.get(&format!("/@{builders}/{path}"), &[]).status, 200);
    assert_eq!(served.get(&format!("/main/{path}"), &[]).status, 404);
    // Another process publishes it, into another channel.
    let other = shop.again();
    publish(&other, "testing", "g", &[&package], 1_700_000_000).unwrap();
    for site in ["testing", "main"] {
        assert_eq!(served.get(&format!("/{site}/{path}"), &[]).status, 200, "{site}");
    }
    for version in 0..20 {
        let newer = shop.add("big", &format!("2.{version}"), "x");
        let id = publish(&shop.repo, "main", "g", &[&newer], 1_700_000_000).unwrap().snapshot;
        // Also between the move of a channel and what is written behind it.
        let names = shop.repo.root().join("names");
        let written = std::fs::read(&names).unwrap();
        std::fs::remove_file(&names).unwrap();
        for site in ["main".to_string(), format!("@{id}")] {
            assert_eq!(served.get(&format!("/{site}/{}", location(&newer)), &[]).status, 200, "{site}");
        }
        std::fs::write(&names, written).unwrap();
    }
    assert_eq!(served.get(&first, &[]).body, bytes);
    served.stop();
}

/// What is kept in memory is never older than what a publish has returned for, on a connection that stays open, too.
#[test]
fn who_asks_after_a_publish_sees_what_was_published() {
    let (shop, served, _, _) = open();
    served.stop();
    // However long a publish takes, the connection stays.
    let patient = Limits { head: std::time::Duration::from_secs(3600), ..Limits::default() };
    let served = Served::limited(&shop.repo, patient);
    let other = shop.again();
    let mut stream = served.connect();
    let packages: Vec<_> = (0..30).map(|n| shop.add("often", &format!("1.{n}"), "x")).collect();
    for package in &packages {
        // This process publishes, and another one.
        let repo = if package.id.version.ends_with('1') { &other } else { &*shop.repo };
        publish(repo, "main", "often", &[package], 1_700_000_000).unwrap();
        for _ in 0..2 {
            let release = said_on(&mut stream, "/main/dists/twostage/Release");
            let listed = said_on(&mut stream, "/main/dists/twostage/main/binary-amd64/Packages");
            assert!(release.contains(&Sha256::of(listed.as_bytes()).to_string()), "{}", package.id);
            assert!(listed.contains(&format!("\nVersion: {}\n", package.id.version)), "{}", package.id);
        }
    }
    served.stop();
}

/// What is kept in memory is withdrawn, too, whoever withdraws it, and whether the channel still has it or not.
#[test]
fn what_is_withdrawn_is_refused_at_once_although_it_is_kept_in_memory() {
    let (shop, served, path, bytes) = open();
    let digest = Sha256::of(&bytes);
    let newer = shop.add("big", "2", "x");
    let other = shop.again();
    for still_there in [true, false] {
        if !still_there {
            // A client that holds earlier metadata still gets it.
            publish(&other, "main", "g", &[&newer], 1_700_000_000).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(served.get(&path, &[]).body, bytes);
        }
    }
    other.withdraw(&[(digest, "big".into())], "a secret", now()).unwrap();
    for _ in 0..2 {
        let answer = served.get(&path, &[]);
        assert_eq!(answer.status, 410, "{}", answer.text());
        assert!(answer.text().contains("a secret"));
        assert_eq!(served.get(&path, &["Range: bytes=0-9"]).status, 410);
    }
    served.stop();
}

/// The body of an answer, on a connection that stays open.
fn said_on(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    let head = String::from_utf8(said).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// A wrong path, and an index of an earlier state, are answered without the lists of packages of earlier snapshots.
#[test]
fn earlier_snapshots_are_not_read_for_what_they_do_not_have() {
    let (shop, served, _, _) = open();
    let release = served.get("/main/dists/twostage/Release", &[]).text();
    let name = release.lines().find_map(|line| line.strip_prefix(' ')).unwrap().split_whitespace().next().unwrap().to_string();
    let first = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    let package = shop.add("later", "1", "x");
    shop.publish("main", "later", &[&package]).unwrap();
    let list = shop.repo.root().join(format!("snapshots/{first}/SHA256SUMS"));
    std::fs::rename(&list, list.with_extension("aside")).unwrap();
    let served = {
        served.stop();
        Served::new(&std::sync::Arc::new(shop.again()))
    };
    let folder = "/main/dists/twostage/main/binary-amd64/by-hash/SHA256";
    assert_eq!(served.get(&format!("{folder}/{name}"), &[]).digest().to_string(), name);
    let zeros = "0".repeat(64);
    for path in [
        format!("{folder}/{zeros}"),
        "/main/repodata/nothing".into(),
        format!("/main/repodata/{zeros}-primary.xml.gz"),
        format!("/main/repodata/{name}-..%2fSHA256SUMS"),
    ] {
        let status = served.get(&path, &[]).status;
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    assert!(log.lock().unwrap().iter().all(|entry| entry.problem.is_none()));
}

#[test]
fn the_server_counts_what_it_answers() {
    let (_shop, served, _, _) = open();
    let numbers = |served: &Served| -> std::collections::HashMap<String, u64> {
        let text = served.get("/metrics", &[]).text();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, n)| (name.into(), n.parse().unwrap()))
            .collect()
    };
    let before = numbers(&served);
    let length = served.get("/main/dists/twostage/InRelease", &[]).body.len();
    served.get("/main/dists/twostage/InRelease", &[]);
    served.get("/nothing", &[]);
    let after = numbers(&served);
    let grew = |name: &str| after[name] - before[name];
    assert_eq!(grew("twostage_http_responses_total{status=\"2xx\"}"), 3, "the numbers themselves, and two");
    assert_eq!(grew("twostage_http_responses_total{status=\"4xx\"}"), 1);
    assert_eq!(grew("twostage_http_kept_total"), 1);
    assert!(grew("twostage_http_sent_bytes_total") > 2 * length as u64);
    // (Of earlier ones, the last may not be gone yet.)
    assert!(after["twostage_http_connections"] >= 1);
    served.stop();
}

#[test]
fn paths_never_leave_the_repository() {
    let (_shop, served, _, _) = open();
    for (path, status) in [
        ("/main/../../lock", 400),
        ("/main/%2e%2e/%2e%2e/key/signing.asc", 400),
        ("/%2e%2e/key/signing.asc", 400),
        ("/..%2fkey%2fsigning.asc", 400),
        ("/main/pool/%2e%2e/x", 400),
        ("/main//dists", 404),
        ("/main/a%00b", 400),
        ("/key/signing.asc", 404),
        ("/channels/main.json", 404),
        ("/main.json", 404),
        ("/@../dists", 404),
    ] {
        assert_eq!(served.get(path, &[]).status, status, "{path}");
    }
    served.stop();
}

#[test]
fn it_is_no_open_proxy() {
    let (_shop, served, deb, bytes) = open();
    let at = served.at;
    for other in ["http://example.invalid/", "http://127.0.0.1:1/", "http://localhost.example.invalid/main", "http://[::1]:22/"] {
        let refused = served.ask("GET", other, &[]);
        assert_eq!(refused.status, 403, "{other}");
        assert!(refused.text().contains("no proxy"));
    }
    assert_eq!(served.raw(b"CONNECT example.invalid:443 HTTP/1.1\r\nHost: example.invalid:443\r\nConnection: close\r\n\r\n").status, 405);
    assert_eq!(served.ask("GET", &format!("http://{FIXED_HOST}{deb}"), &["Host: repository.twostage.invalid"]).body, bytes);
    assert_eq!(served.ask("GET", &format!("http://{at}/healthz"), &[]).text(), "ok\n");
    served.stop();
}

#[test]
fn other_methods_and_broken_requests_get_their_status() {
    let (_shop, served, _, _) = open();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let answer = served.ask(method, "/main", &["Content-Length: 0"]);
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    assert_eq!(served.raw(b"nonsense\r\n\r\n").status, 400);
    assert_eq!(served.raw(b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n").status, 400);
    assert_eq!(served.get("/main.sources", &["Host: evil\tx"]).status, 400);
    let many: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    assert_eq!(served.raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()).status, 431);
    assert_eq!(served.raw(b"GET /healthz HTTP/1.0\r\n\r\n").status, 200);
    served.stop();
}

#[test]
fn a_client_file_names_the_server_as_the_client_reached_it() {
    let (shop, served, _, _) = open();
    let id = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    let text = served.get("/main.sources", &["Host: packages.example.invalid:8080"]).text();
    assert!(text.contains("\nURIs: http://packages.example.invalid:8080/main/\n"), "{text}");
    assert!(text.contains("\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n "), "{text}");
    let fixed = served.ask("GET", &format!("http://{FIXED_HOST}/@{id}.sources"), &[]).text();
    assert!(fixed.contains(&format!("\nURIs: http://{FIXED_HOST}/@{id}/\n")), "{fixed}");
    served.stop();
}

#[test]
fn the_access_log_says_who_got_what() {
    let (_shop, served, path, bytes) = open();
    served.get(&path, &["User-Agent: tester", "Range: bytes=0-9"]);
    served.ask("HEAD", &path, &[]);
    served.get("/nothing", &[]);
    served.get(&path, &[]);
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    let log = log.lock().unwrap();
    let seen: Vec<_> = log.iter().map(|e| (e.method.as_str(), e.status, e.sent, e.agent.as_str())).collect();
    assert_eq!(seen[0], ("GET", 206, 10, "tester"));
    assert_eq!(seen[1], ("HEAD", 200, 0, ""));
    assert_eq!((seen[2].1, seen[3].2), (404, bytes.len() as u64));
    assert!(log.iter().all(|e| e.target.starts_with('/')));
}

#[test]
fn what_is_wrong_with_the_repository_is_told_to_its_operator_and_not_to_the_client() {
    let (shop, served, _, _) = open();
    std::fs::write(shop.repo.root().join("channels/main.json"), "{").unwrap();
    let answer = served.get("/main.sources", &[]);
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("main.json"), "{}", answer.text());
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    let told = log.lock().unwrap()[0].problem.clone().unwrap();
    assert!(told.contains("channels/main.json"), "{told}");
}

#[test]
fn a_stop_lets_a_running_download_finish() {
    // More than the sockets of both ends hold: the server has most of it yet to send when it is stopped.
    const SIZE: usize = 32 << 20;
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&large_deb(SIZE)[..], "large").unwrap();
    publish(&shop.repo, "main", "g", &[&package], 1_700_000_000).unwrap();
    let digest = package.sha256.to_string();
    let served = Served::new(&shop.repo);
    let mut stream = TcpStream::connect(served.at).unwrap();
    let target = format!("/main/pool/{}/{digest}/large_1.0_all.deb", &digest[..2]);
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    let (at, log) = (served.at, std::sync::Arc::clone(&served.log));
    let stopper = std::thread::spawn(move || served.stop());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while TcpStream::connect(at).is_ok() {
        assert!(std::time::Instant::now() < end, "it still listens");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!stopper.is_finished() && log.lock().unwrap().iter().all(|entry| entry.target != target), "the download still runs");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let head = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(Sha256::of(&rest[head..]).to_string(), digest, "the whole package came");
    stopper.join().unwrap();
    assert!(TcpStream::connect(at).is_err(), "nobody listens any more");
}
