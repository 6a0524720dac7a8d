//! The errors that all tests cause, in one table for people: what, why, and the hint. `make test` writes it to
//! `target/errors.md`. Whether a hint follows from its cause is read there; what a program can check is checked here.

use crate::support::{Done, run, tool, twostage};
use std::fs;
use std::io::Write as _;

/// An error as it is shown.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    what: String,
    because: Vec<String>,
    hint: String,
}

/// The error of a command: at the end of what it says to standard error, or with `--json` an event.
fn shown(done: &Done) -> Option<Shown> {
    let event =
        done.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find(|event| event["event"] == "error");
    if let Some(event) = event {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
        let because = event["causes"].as_array().into_iter().flatten().map(text).collect();
        return Some(Shown { what: text(&event["message"]), because, hint: text(&event["hint"]) });
    }
    let (_, error) = done.err.rsplit_once("error: ").filter(|(before, _)| before.is_empty() || before.ends_with('\n'))?;
    let (error, hint) = error.split_once("\n  hint: ")?;
    let mut parts = error.split("\n  because: ").map(String::from);
    Some(Shown { what: parts.next()?, because: parts.collect(), hint: hint.trim_end().to_string() })
}

/// A row of the table. What is another in each run, is the same in all: digests, and names of temporary folders.
fn row(status: i32, error: &Shown) -> String {
    let cell = |text: &str| {
        let mut cell = String::new();
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let (name, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
            let digest = name.len() >= 12 && name.bytes().all(|b| b.is_ascii_hexdigit());
            cell.push_str(if digest { "DIGEST" } else { name });
            cell.push_str(end);
        }
        let mut cell = cell.replace(env!("CARGO_TARGET_TMPDIR"), "/tmp").replace('|', "\\|").replace('\n', "<br>");
        while let Some((before, after)) = cell.split_once("/tmp/") {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c))).unwrap_or(after.len());
            cell = format!("{before}TMP{}", &after[end..]);
        }
        cell
    };
    format!("| {status} | {} | {} | {} |", cell(&error.what), cell(&error.because.join("; ")), cell(&error.hint))
}

/// Keeps an error for the table, where `make test` asks for it.
pub fn keep(done: &Done) {
    if done.status <= 0 {
        return;
    }
    if let (Some(path), Some(error)) = (std::env::var_os("TWOSTAGE_TEST_ERRORS"), shown(done)) {
        let mut file = fs::File::options().append(true).create(true).open(path).expect("the table can be written");
        file.write_all(format!("{}\n", row(done.status, &error)).as_bytes()).expect("the table can be written");
    }
}

#[test]
fn an_error_is_a_row_that_is_the_same_in_each_run() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["channel"][..], &["--json", "channel"]] {
        let done = run(twostage().arg("--project").arg(folder.path()).args(arguments)).fails_with(3);
        let error = shown(&done).expect("an error");
        let hint = "`twostage init` writes one; `--project DIR` names another folder";
        assert_eq!((error.because.as_slice(), error.hint.as_str()), (&[][..], hint));
        assert_eq!(row(3, &error), format!("| 3 | there is no project file TMP/twostage.toml |  | {hint} |"));
    }
    let two = Shown { what: "a|b".into(), because: vec!["x".into(), "sha256:0123456789abcdef\n/tmp/.x-1/y".into()], hint: "z".into() };
    assert_eq!(row(8, &two), "| 8 | a\\|b | x; sha256:DIGEST<br>TMP/y | z |");
    assert_eq!(shown(&tool("sh", &["-c", "echo error: no hint >&2; exit 1"])), None);
}

#[test]
fn an_address_that_cannot_be_listened_on_has_the_hint_that_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("twostage.toml"), "[project]\nname = \"demo\"\n[base]\nimage = \"debian\"\n").expect("a project file");
    crate::support::give_key(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    for (address, hint) in [(taken.as_str(), "choose another port"), ("192.0.2.1:80", "`ip address` lists")] {
        let done = run(twostage().arg("--project").arg(folder.path()).args(["serve", "--listen", address])).fails_with(8);
        let error = shown(&done).expect("an error");
        assert!(error.what.contains(address) && error.hint.contains(hint), "{error:?}");
    }
}

#[test]
fn a_command_that_fails_before_it_knows_anything_writes_no_lock() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let project = "[project]\nname = \"demo\"\n[base]\nrootfs = \"base.tar\"\n[runtime.app]\npackages = [\"hello\"]\n";
    fs::write(path("twostage.toml"), project).expect("a project file");
    fs::write(path("base.tar"), "no tar").expect("a file");
    for command in [&["repo"][..], &["lock"], &["update"], &["outdated"], &["runtime"]] {
        let mut twostage = twostage();
        twostage.arg("--project").arg(folder.path()).args(command).args(["--engine", "embedded", "--engine-host"]).arg(path("store"));
        let done = run(&mut twostage);
        assert!(done.status > 1, "{command:?}: {}", done.err);
        assert!(!path("twostage.lock").exists(), "{command:?} wrote a lock: {}", done.err);
    }
}
