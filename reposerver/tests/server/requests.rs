//! Requests that are almost right, or meant to be read in two ways.

use crate::common::Served;
use crate::http::open;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use twostage_model::Sha256;

/// How many responses there are in what a connection said, and the status of the first.
fn responses(said: &str) -> (usize, &str) {
    (said.matches("HTTP/1.1 ").count(), said.get(9..12).unwrap_or_default())
}

#[test]
fn a_client_that_has_said_all_and_closes_its_side_is_answered() {
    let (_shop, served, deb, bytes) = open();
    let digest = Sha256::of(&bytes);
    for head in [
        format!("GET {deb} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET {deb} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        format!("GET {deb} HTTP/1.0\r\n\r\n"),
        // Several at once, and then the end.
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET {deb} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let mut stream = served.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let start = Instant::now();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(said.len() > bytes.len(), "{head}: {} bytes", said.len());
        assert_eq!(Sha256::of(&said[said.len() - bytes.len()..]), digest, "{head}");
        assert!(start.elapsed() < Duration::from_secs(20), "{head}: the server closes, too");
    }
    // Half a request is none.
    let mut stream = served.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or_default(), 0);
    served.stop();
}

#[test]
fn requests_are_the_same_however_they_are_cut() {
    let (_shop, served, deb, bytes) = open();
    let release = served.get("/main/dists/twostage/InRelease", &[]).body;
    let mut all = String::new();
    for target in ["/main/dists/twostage/InRelease", "/nothing", &deb, "/healthz", "/main/dists/twostage/InRelease"] {
        all.push_str(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "x".repeat(700)));
    }
    let all = all.repeat(10).into_bytes();
    for size in [1, 7, 1000, 5000, all.len()] {
        let mut stream = served.connect();
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut said = Vec::new();
            reader.read_to_end(&mut said).map(|_| said)
        });
        // One byte at a time takes long: of the first requests only.
        let sent = if size == 1 { &all[..all.len() / 10] } else { &all };
        for piece in sent.chunks(size) {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let said = reading.join().unwrap().unwrap();
        let times = if size == 1 { 1 } else { 10 };
        let count = |part: &[u8]| said.windows(part.len()).filter(|window| *window == part).count();
        let counted = (count(b"HTTP/1.1 200 OK\r\n"), count(b"HTTP/1.1 404 "), count(&release), count(&bytes[..200]));
        assert_eq!(counted, (4 * times, times, 2 * times, times), "in pieces of {size}");
    }
    served.stop();
}

#[test]
fn a_request_says_once_whom_it_is_for() {
    let (_shop, served, _, _) = open();
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nhost: b\r\n", 400),
        ("GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a/b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\"b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: me@a\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a:b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: \u{e4}\r\n", 400),
        ("HEAD /healthz HTTP/1.1\r\n", 400),
        ("BREW /healthz HTTP/1.1\r\n", 400),
        ("GET http://repository.twostage.invalid/healthz HTTP/1.1\r\n", 400),
        ("GET http://repository.twostage.invalid/healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET http://repository.twostage.invalid/healthz HTTP/1.1\r\nHost: another\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nHost: a\r\n", 200),
    ] {
        assert_eq!(served.raw(format!("{head}Connection: close\r\n\r\n").as_bytes()).status, status, "{head}");
    }
    served.stop();
}

#[test]
fn a_condition_that_does_not_hold_ends_the_request() {
    let (_shop, served, deb, bytes) = open();
    let etag = format!("\"{}\"", Sha256::of(&bytes));
    let earlier = "Tue, 14 Nov 1995 22:13:20 GMT";
    let release = "/main/dists/twostage/InRelease";
    for (path, headers, status) in [
        (deb.as_str(), vec![format!("If-Match: {etag}")], 200),
        (&deb, vec!["If-Match: *".into()], 200),
        (&deb, vec!["If-Match: \"another\"".into()], 412),
        (&deb, vec![format!("If-Match: W/{etag}")], 412),
        (&deb, vec!["If-Match: \"another\"".into(), "Range: bytes=0-1".into()], 412),
        (&deb, vec![format!("If-Match: {etag}"), "Range: bytes=0-1".into()], 206),
        (&deb, vec![format!("If-Match: {etag}"), format!("If-None-Match: {etag}")], 304),
        (&deb, vec!["If-Match: \"another\"".into(), format!("If-None-Match: {etag}")], 412),
        (release, vec![format!("If-Unmodified-Since: {earlier}")], 412),
        (release, vec![format!("If-Unmodified-Since: {earlier}"), "If-Match: *".into()], 200),
        ("/nothing", vec!["If-Match: \"another\"".into()], 404),
        ("/nothing", vec!["If-Match: *".into()], 404),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        for method in ["GET", "HEAD"] {
            let status = if method == "HEAD" && status == 206 { 200 } else { status };
            assert_eq!(served.ask(method, path, &headers).status, status, "{method} {path} {headers:?}");
        }
    }
    served.stop();
}

/// Of each pair the second is what the first hides from whoever reads it in another way.
#[test]
fn nothing_is_a_request_that_is_the_body_of_another() {
    let (_shop, served, _, _) = open();
    let hidden = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = hidden.len();
    for (head, body, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"), hidden.to_string(), "200"),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"), hidden.to_string(), "405"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n".into(), format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n"), "200"),
        // Both, and which of them counts is a matter of taste.
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
            format!("0\r\n\r\n{hidden}"),
            "200",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_string(),
            format!("0\r\n\r\n{hidden}"),
            "200",
        ),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: {length}\r\n"), hidden.to_string(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +{length}\r\n"), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n".into(), format!("0\r\n\r\n{hidden}"), "400"),
        // A header that goes on in the next line, a name with a space, a name with no end.
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z: 1\r\n".to_string(), hidden.to_string(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : {length}\r\n"), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n".into(), hidden.to_string(), "400"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n".into(), hidden.to_string(), "400"),
        ("GET / HTTP/3.1\r\nHost: a\r\n".into(), hidden.to_string(), "400"),
        ("GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n".into(), hidden.to_string(), "400"),
    ] {
        let mut stream = served.connect();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("\r\n\r\nok\n"), "{head}: the hidden one was answered\n{said}");
        assert_eq!(responses(&said).1, status, "{head}\n{said}");
    }
    served.stop();
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_told_at_once() {
    let (_shop, served, _, _) = open();
    let start = Instant::now();
    let mut stream = served.connect();
    stream.write_all(b"PUT /main/x.deb HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 405");
    assert!(start.elapsed() < Duration::from_secs(20));
    served.stop();
}

/// A system throws away what its program has not read yet when the other end resets the connection.
#[test]
fn a_refusal_arrives_although_the_client_is_still_sending() {
    let (_shop, served, _, _) = open();
    let body = vec![b'x'; 8 << 20];
    for (head, status) in [
        (format!("PUT /main/x.deb HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()), "405"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: nothing\r\n\r\n".into(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "y".repeat(100_000)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(10_000)), "431"),
    ] {
        let mut stream = served.connect();
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        assert_eq!(responses(&said), (1, status), "{}: {sent:?}, {read:?}\n{said}", &head[..60]);
    }
    served.stop();
}

#[test]
fn what_is_too_long_is_said_to_be() {
    let (_shop, served, _, _) = open();
    for (target, status) in [(8191, 404), (8192, 414), (20_000, 414)] {
        assert_eq!(served.get(&format!("/{}", "a".repeat(target)), &[]).status, status, "{target}");
    }
    assert_eq!(served.get(&format!("/healthz?{}", "a".repeat(9000)), &[]).status, 414);
    let (few, many) = ("X: y\r\n".repeat(50), "X: y\r\n".repeat(100));
    // (With Host and Connection.)
    let (most, more) = ("X: y\r\n".repeat(62), "X: y\r\n".repeat(63));
    for (headers, status) in [(few, 200), (most, 200), (more, 431), (many, 431), (format!("X: {}\r\n", "y".repeat(70_000)), 431)] {
        let answer = served.raw(format!("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n").as_bytes());
        assert_eq!(answer.status, status, "{} bytes", headers.len());
    }
    served.stop();
}

#[test]
fn a_head_is_that_of_the_body_which_it_leaves_out() {
    let (shop, served, deb, _) = open();
    let id = shop.repo.channels().get("main").unwrap().unwrap().snapshot;
    let etag = served.get("/main.sources", &[]).header("etag").to_string();
    let known = format!("If-None-Match: {etag}");
    for (path, headers) in [
        ("/", vec![]),
        ("/healthz", vec![]),
        ("/key.asc", vec![]),
        ("/main", vec![]),
        ("/main/", vec![]),
        ("/main.sources", vec![]),
        ("/main.repo", vec![]),
        (&format!("/@{id}.sources"), vec![]),
        (&format!("/@{id}/SHA256SUMS"), vec![]),
        ("/main/dists/twostage/InRelease", vec![]),
        ("/main/dists/twostage/Release.gpg", vec![]),
        ("/main/dists/twostage/main/binary-amd64/Packages.gz", vec![]),
        ("/main/repodata/repomd.xml", vec![]),
        (&deb, vec![]),
        ("/nothing", vec![]),
        ("/main//x", vec![]),
        ("/main/%2e%2e/x", vec![]),
        (&format!("/{}", "a".repeat(9000)), vec![]),
        ("/main.sources", vec![known.as_str()]),
        ("/main.sources", vec!["If-Match: \"another\""]),
        ("http://another.invalid/", vec![]),
    ] {
        let (get, head) = (served.ask("GET", path, &headers), served.ask("HEAD", path, &headers));
        let (mut of_get, mut of_head) = (get.headers.clone(), head.headers.clone());
        for headers in [&mut of_get, &mut of_head] {
            headers.remove("date");
        }
        assert_eq!((head.status, of_head, head.body.len()), (get.status, of_get, 0), "{path} {headers:?}");
    }
    served.stop();
}

#[test]
fn other_forms_of_a_target_are_refused() {
    let (_shop, served, _, _) = open();
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", 405),
        ("GET * HTTP/1.1", 400),
        ("GET example.invalid:80 HTTP/1.1", 403),
        ("GET http:// HTTP/1.1", 400),
        ("GET HTTP/1.1", 400),
        ("GET main HTTP/1.1", 403),
        ("get /healthz HTTP/1.1", 405),
    ] {
        let answer = served.raw(format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        assert_eq!(answer.header("allow"), if status == 405 { "GET, HEAD" } else { "" }, "{line}");
    }
    served.stop();
}

#[test]
fn what_is_no_request_is_in_the_log_in_words_that_harm_nobody() {
    let (_shop, served, _, _) = open();
    let agent = format!("tester\u{1b}[2J\u{202e}\"{}", "x".repeat(5000));
    served.raw(
        format!("GET /nothing/%1b?token=secret HTTP/1.1\r\nHost: a\r\nUser-Agent: \u{9b}{agent}\r\nConnection: close\r\n\r\n")
            .replace('\u{1b}', "\t")
            .as_bytes(),
    );
    served.ask("GET", "http://me:secret@another.invalid/x?y=secret", &["Authorization: Bearer secret"]);
    served.raw(b"\x1b]0;title\x07 / HTTP/1.1\r\nAuthorization: secret\r\n\r\n");
    served.raw(format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(60_000)).as_bytes());
    served.raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)).as_bytes());
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    let log = log.lock().unwrap();
    let seen: Vec<_> = log.iter().map(|e| (e.method.as_str(), e.target.get(..15).unwrap_or(&e.target), e.status)).collect();
    assert_eq!(
        seen,
        [
            ("GET", "/nothing/%1b?\u{2026}", 400),
            ("GET", "http://\u{2026}@anot", 403),
            ("-", "-", 400),
            ("GET", "/aaaaaaaaaaaaaa", 414),
            ("-", "-", 431)
        ]
    );
    assert!(log[2].problem.as_deref().unwrap().starts_with("malformed request: "), "{:?}", log[2].problem);
    for entry in log.iter() {
        let text = format!("{} {} {} {}", entry.method, entry.target, entry.agent, entry.problem.as_deref().unwrap_or_default());
        assert!(!text.contains("secret"), "{text}");
        assert!(text.len() < 3000 && text.chars().all(|c| (' '..='~').contains(&c) || c == '\u{2026}'), "{text}");
    }
}

/// Whatever comes: each response is in the log, what is no request ends its connection, and the next client is answered.
#[test]
fn changed_requests_are_answered_or_refused_and_each_answer_is_logged() {
    let all = std::env::var("TWOSTAGE_TESTS").is_ok_and(|which| which == "all");
    if !all {
        crate::common::count("short");
    }
    let (_shop, served, _, _) = open();
    let seeds = [
        "GET /main/dists/twostage/Release HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-Match: *\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n",
    ];
    let words: [&[u8]; 9] = [b"\r\n", b"\n", b" ", b"\t", b"\0", b":", b"Content-Length: 3\r\n", b"Transfer-Encoding: gzip\r\n", b"\xff"];
    let mut state = 1_u64;
    let mut number = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    let mut expected = std::collections::HashMap::new();
    for _ in 0..if all { 10_000 } else { 300 } {
        let mut bytes = seeds[number(seeds.len())].as_bytes().to_vec();
        for _ in 0..=number(3) {
            let at = number(bytes.len());
            match number(3) {
                0 => bytes[at] ^= 1 << number(8),
                1 => drop(bytes.splice(at..at, words[number(words.len())].iter().copied())),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.extend_from_slice(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut stream = served.connect();
        let port = stream.local_addr().unwrap().port();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let count = i64::try_from(said.windows(8).filter(|window| *window == b"\r\ndate: ").count()).unwrap();
        assert!(count > 0 || said.is_empty(), "{read:?} {}", String::from_utf8_lossy(&said));
        // (A port comes again when there were many.)
        *expected.entry(port).or_insert(0) += count;
    }
    served.answers_within("127.0.0.1", Duration::from_secs(10));
    let log = std::sync::Arc::clone(&served.log);
    served.stop();
    for entry in log.lock().unwrap().iter() {
        if let Some(count) = expected.get_mut(&entry.peer.port()) {
            *count -= 1;
        }
    }
    let wrong: Vec<_> = expected.iter().filter(|(_, count)| **count != 0).collect();
    assert!(wrong.is_empty(), "answers without an entry, or entries without an answer: {wrong:?}");
}

/// The entry of what is no request is there before its answer is: whoever was answered finds it in the log.
#[test]
fn what_is_no_request_is_in_the_log_before_it_is_answered() {
    let (_shop, served, _, _) = open();
    for number in 1..200 {
        let mut stream = served.connect();
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        let mut said = [0; 12];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 400");
        assert_eq!(served.log.lock().unwrap().len(), number, "the entry comes after the answer");
    }
    served.stop();
}

impl Served {
    /// The standing of a place from outside: whether a new client is answered soon.
    #[track_caller]
    pub fn answers_within(&self, from: &str, time: Duration) {
        let start = Instant::now();
        let mut stream = crate::connections::connect_from(from, self.at);
        stream.set_read_timeout(Some(time)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        let read = stream.read_to_string(&mut said);
        assert!(said.ends_with("\r\n\r\nok\n"), "{from} after {:?}: {read:?} {said:?}", start.elapsed());
    }
}
