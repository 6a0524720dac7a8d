//! Many publishers at once, while real apt, dnf and zypper read.

use crate::common::{self, Answer, Apt, Dnf, Served, Shop, Zypper, count, has, now, settings, tell};
use crate::connections::connect_from_port;
use crate::yum::plain;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use twostage_model::Sha256;
use twostage_model::project::YumCompression;
use twostage_reposerver::Repository;

const FOLDER: &str = "TWOSTAGE_TEST_PUBLISHER_IN";
const NUMBER: &str = "TWOSTAGE_TEST_PUBLISHER";

/// How many publishers, and how many packages each has.
fn size() -> (usize, usize) {
    if common::long() { (16, 50) } else { (6, 5) }
}

fn package(publisher: usize, number: usize) -> String {
    format!("pkg{publisher}-{number}")
}

/// One publisher, a process of its own: every other one has rpms. It says which packages it was told are published. It
/// does nothing unless the test below starts it.
#[test]
fn publish_one_by_one() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let publisher: usize = std::env::var(NUMBER).unwrap().parse().unwrap();
    let repo = Repository::open(folder.as_ref(), settings()).unwrap();
    for number in 0..size().1 {
        let name = package(publisher, number);
        let bytes = if publisher.is_multiple_of(2) { common::deb(&name, "1", "all", "", &name) } else { plain(&name, "1", &name) };
        let stored = repo.pool().ingest(&bytes[..], &name).unwrap();
        let add = |members: &mut twostage_reposerver::Members| {
            members.entry("published".to_string()).or_default().insert(stored.sha256);
        };
        assert!(repo.publish("main", now(), add).unwrap().changed);
        println!("acknowledged {name}");
    }
}

fn publisher(folder: &std::path::Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "many::publish_one_by_one", "--nocapture"])
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a reader sees, again and again until all is published, and once after that: never less than before.
fn read(what: &str, done: &AtomicBool, mut seen: impl FnMut() -> BTreeSet<String>) -> (usize, BTreeSet<String>) {
    let (mut reads, mut before) = (0, BTreeSet::new());
    loop {
        let last = done.load(Ordering::SeqCst);
        let now = seen();
        let lost: Vec<_> = before.difference(&now).collect();
        assert!(lost.is_empty(), "{what}: read {reads} lacks what the one before had: {lost:?}");
        (reads, before) = (reads + 1, now);
        if last {
            return (reads, before);
        }
    }
}

/// What the server was asked last.
fn asked(served: &Served) -> String {
    let log = served.log.lock().unwrap();
    let last = log.iter().rev().take(40).rev();
    last.map(|entry| format!("{} {} {} {} {}\n", entry.peer, entry.status, entry.sent, entry.target, entry.agent)).collect()
}

#[test]
fn publishers_lose_nothing_while_apt_dnf_and_zypper_read() {
    if !has(&["dnf", "zypper", "apt-get"]) {
        return;
    }
    count("zypper");
    let shop = Shop::new();
    let first = [common::deb("first-deb", "1", "all", "", "x"), plain("first-rpm", "1", "x")];
    let first = first.map(|bytes| shop.repo.pool().ingest(&bytes[..], "first").unwrap());
    shop.publish("main", "first", &first.each_ref().map(AsRef::as_ref)).unwrap();
    let served = Served::new(&shop.repo);
    let client = served.get("/main.repo", &[]).text();
    let apt = Apt::new(&served.get("/main.sources", &[]).text());
    let (dnf, zypper) = (Dnf::new(&client), Zypper::new(&client));
    let (publishers, each) = size();
    let done = AtomicBool::new(false);
    let (by_apt, by_dnf, by_zypper) = std::thread::scope(|scope| {
        let by_apt = scope.spawn(|| {
            read("apt", &done, || {
                apt.get(&["update"]);
                let lists = fs::read_dir(apt.path("lists")).unwrap().map(|entry| entry.unwrap().path());
                let lists = lists.filter(|path| path.to_string_lossy().ends_with("_Packages"));
                let text: String = lists.map(|path| fs::read_to_string(path).unwrap()).collect();
                let found: BTreeSet<_> = text.lines().filter_map(|line| Some(line.strip_prefix("Package: ")?.to_string())).collect();
                // What the index names is there, whole.
                let newest = found.iter().next_back().unwrap();
                apt.get(&["install", "-y", "-d", "--reinstall", newest]);
                found
            })
        });
        let by_dnf = scope.spawn(|| {
            read("dnf", &done, || {
                let (good, said) = dnf.run(&["--refresh", "repoquery", "--available", "--qf", "seen:%{name} "]);
                assert!(good, "{said}\n{}", asked(&served));
                said.split_whitespace().filter_map(|word| Some(word.strip_prefix("seen:")?.to_string())).collect()
            })
        });
        let by_zypper = scope.spawn(|| {
            read("zypper", &done, || {
                let (good, said) = zypper.run(&["--gpg-auto-import-keys", "refresh", "--force"]);
                assert!(good, "{said}\n{}", asked(&served));
                zypper.packages()
            })
        });
        let children: Vec<Child> = (0..publishers).map(|number| publisher(shop.repo.root(), number)).collect();
        for (number, mut child) in children.into_iter().enumerate() {
            let (mut said, mut failed) = (String::new(), String::new());
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            child.stderr.take().unwrap().read_to_string(&mut failed).unwrap();
            let acknowledged: BTreeSet<_> = said.lines().filter_map(|line| Some(line.split_once("acknowledged ")?.1.to_string())).collect();
            // (Readers end, whatever the publishers did.)
            let complete = child.wait().unwrap().success() && acknowledged == (0..each).map(|at| package(number, at)).collect();
            if !complete {
                done.store(true, Ordering::SeqCst);
            }
            assert!(complete, "publisher {number}: {said}{failed}");
        }
        done.store(true, Ordering::SeqCst);
        (by_apt.join().unwrap(), by_dnf.join().unwrap(), by_zypper.join().unwrap())
    });
    let all = |kind: usize, first: &str| -> BTreeSet<String> {
        let of_kind = (0..publishers).filter(|publisher| publisher % 2 == kind);
        of_kind.flat_map(|publisher| (0..each).map(move |at| package(publisher, at))).chain([first.to_string()]).collect()
    };
    assert_eq!(by_apt.1, all(0, "first-deb"));
    assert_eq!(by_dnf.1, all(1, "first-rpm"));
    assert_eq!(by_zypper.1, all(1, "first-rpm"));
    let checked = shop.again().fsck(None, false, now()).unwrap();
    assert!(checked.found.is_empty() && checked.mended.is_empty(), "{checked:?}");
    tell(&format!(
        "publishers: {publishers} of {each} packages each; reads meanwhile: apt {}, dnf {}, zypper {}",
        by_apt.0, by_dnf.0, by_zypper.0
    ));
}

/// The body of one answer on a connection that stays open.
fn on(stream: &mut std::net::TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// What dnf does (a connection for each file), and what zypper does (the signature first, all on one connection).
#[test]
fn a_file_and_its_signature_are_of_one_state_though_a_publish_came_between() {
    let shop = Shop::new();
    let rpms = ["1", "2", "3"].map(|version| shop.repo.pool().ingest(&plain("greet", version, version)[..], "greet").unwrap());
    let add = |number: usize| shop.publish("main", "g", &[&rpms[number]]).unwrap();
    add(0);
    let served = Served::new(&shop.repo);
    for (file, signature) in [
        ("/main/repodata/repomd.xml", "/main/repodata/repomd.xml.asc"),
        ("/main/dists/twostage/Release", "/main/dists/twostage/Release.gpg"),
    ] {
        let get = |path: &str| served.get(path, &[]).text();
        let fits = |file: &str, signature: &str| {
            let dir = tempfile::TempDir::new().unwrap();
            let [file, signature] = [("file", file), ("signature", signature)].map(|(name, text)| {
                fs::write(dir.path().join(name), text).unwrap();
                dir.path().join(name)
            });
            common::gpgv(&shop.repo.signing().public_key().unwrap(), dir.path(), &[&signature, &file]).0
        };
        let old = get(file);
        add(1);
        assert!(fits(&old, &get(signature)), "{signature}: each on a connection of its own");
        let new = get(file);
        assert_ne!(old, new, "{file}: who asks again sees what is new");
        // A request that is refused takes nothing from the one that follows it.
        let mut refused = served.connect();
        let target = format!("GET {signature} HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n");
        refused.write_all(target.as_bytes()).unwrap();
        let mut answer = String::new();
        refused.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        add(2);
        assert!(fits(&new, &get(signature)), "{signature}: of what is new");
        add(1);

        // A file whose signature nobody wants is not in the way of the next one's.
        let _ = get(file);
        std::thread::sleep(std::time::Duration::from_millis(2100));
        add(0);
        add(1);
        let newer = get(file);
        assert!(fits(&newer, &get(signature)), "{signature}: of what was fetched just now");
        let new = get(file);
        let _ = get(signature);

        let mut stream = served.connect();
        let old = on(&mut stream, signature);
        add(2);
        let file_then = on(&mut stream, file);
        assert_eq!(file_then, new, "{file}: of the signature's state, on the same connection");
        assert!(fits(&file_then, &old));
        assert!(fits(&on(&mut stream, file), &on(&mut stream, signature)), "{file}: both of what is new");
        assert_ne!(get(file), new, "{file}: on another connection");
        let _ = get(signature);
        add(0);
    }
    served.stop();
}

/// A client's port is another connection's soon. What waited for the connection that is over is not for that one.
#[test]
fn a_pair_ends_with_its_connection() {
    // An address that no other test connects from, so that its ports are free.
    const ADDRESS: &str = "127.0.7.31";
    let shop = Shop::new();
    let rpms = ["1", "2"].map(|version| shop.repo.pool().ingest(&plain("greet", version, version)[..], "greet").unwrap());
    let add = |number: usize| shop.publish("main", "g", &[&rpms[number]]).unwrap();
    add(0);
    let served = Served::new(&shop.repo);
    let get = |port: u16, name: &str| {
        let mut stream = connect_from_port(&format!("{ADDRESS}:{port}"), served.at);
        let head = format!("GET /main/repodata/{name} HTTP/1.1\r\nHost: a\r\nUser-Agent: one\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = Answer::read(stream);
        assert_eq!(answer.status, 200, "{name}");
        answer.text()
    };
    let again = 4000;
    let old = get(again, "repomd.xml");
    let signature = get(0, "repomd.xml.asc");
    add(1);
    let new = get(0, "repomd.xml");
    assert_ne!(old, new);
    let newer = get(again, "repomd.xml.asc");
    assert_ne!(newer, signature, "not that of the file which the port's earlier connection fetched");
    served.stop();
}

/// Index files are put together from blocks: frames of zstd, flushed parts of gzip. Every client reads all of them, and those
/// of the next snapshot, in which most blocks are copies.
#[test]
fn apt_dnf_and_zypper_read_all_of_an_index_of_many_blocks() {
    if !has(&["dnf", "zypper", "apt-get"]) {
        return;
    }
    count("zypper");
    let number = if common::long() { 20_000 } else { 400 };
    let shop = Shop::new();
    let names = |kind: &str| -> BTreeSet<String> { (0..number).map(|at| format!("{kind}-{at}")).collect() };
    let (debs, rpms) = (names("deb"), names("rpm"));
    let taken = |name: &String| {
        let bytes = if name.starts_with("deb") { common::deb(name, "1", "all", "", "x") } else { plain(name, "1", "x") };
        shop.repo.pool().ingest(&bytes[..], name).unwrap().sha256
    };
    let members: BTreeSet<_> = debs.iter().chain(&rpms).map(taken).collect();
    let add = |repo: &Repository, digests: &BTreeSet<Sha256>| {
        let change = |members: &mut twostage_reposerver::Members| members.entry("all".into()).or_default().extend(digests);
        assert!(repo.publish("main", now(), change).unwrap().changed);
    };
    add(&shop.repo, &members);
    let [mut debs, mut rpms] = [debs, rpms];
    let mut blocks = 0;
    for compression in [YumCompression::Gzip, YumCompression::Zstd] {
        // One more of each kind: what is served is mostly copied.
        let kind = format!("{compression:?}").to_lowercase();
        let more = [format!("deb-more-{kind}"), format!("rpm-more-{kind}")];
        let settings = twostage_reposerver::Settings { yum_compression: compression, ..shop.repo.settings().clone() };
        let repo = std::sync::Arc::new(Repository::open(shop.repo.root(), settings).unwrap());
        add(&repo, &more.each_ref().map(taken).into());
        let [deb, rpm] = more;
        debs.insert(deb);
        rpms.insert(rpm);
        let served = Served::new(&repo);
        let client = served.get("/main.repo", &[]).text();
        let apt = Apt::new(&served.get("/main.sources", &[]).text());
        apt.get(&["update"]);
        let lists = fs::read_dir(apt.path("lists")).unwrap().map(|entry| entry.unwrap().path());
        let text: String =
            lists.filter(|path| path.to_string_lossy().ends_with("_Packages")).map(|path| fs::read_to_string(path).unwrap()).collect();
        let by_apt: BTreeSet<_> = text.lines().filter_map(|line| Some(line.strip_prefix("Package: ")?.to_string())).collect();
        let dnf = Dnf::new(&client);
        let (good, said) = dnf.run(&["--refresh", "repoquery", "--available", "--qf", "seen:%{name} "]);
        assert!(good, "{said}");
        let by_dnf: BTreeSet<_> = said.split_whitespace().filter_map(|word| Some(word.strip_prefix("seen:")?.to_string())).collect();
        let zypper = Zypper::new(&client);
        let (good, said) = zypper.run(&["--gpg-auto-import-keys", "refresh", "--force"]);
        assert!(good, "{said}");
        let by_zypper = zypper.packages();
        for (who, seen, all) in [("apt", by_apt, &debs), ("dnf", by_dnf, &rpms), ("zypper", by_zypper, &rpms)] {
            let missing: Vec<_> = all.difference(&seen).take(5).collect();
            assert!(seen == *all, "{who} sees {} of {} with {kind}; not {missing:?}", seen.len(), all.len());
        }
        if compression == YumCompression::Zstd {
            let packed = served.get(&format!("/main/{}", crate::yum::listed(&served, "/main")["primary"]), &[]).body;
            blocks = packed.windows(4).filter(|start| *start == [0x28, 0xb5, 0x2f, 0xfd]).count();
        }
        served.stop();
    }
    assert!(blocks > number / 200, "{blocks} frames of {number} packages");
    tell(&format!("{number} debs and {number} rpms, {blocks} frames in primary.xml.zst: apt, dnf and zypper see all"));
}
