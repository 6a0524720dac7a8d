//! A publish under a clock that was a year ahead, and the way out of it, as real clients see it.

use crate::common::{Apt, Dnf, Served, Shop, now};
use crate::yum::plain;
use serde_json::Value;
use std::fs;
use std::sync::Arc;
use twostage_model::date;
use twostage_reposerver::sign::{Algorithm, Key};

/// Signs what a channel says with a date so many seconds later, as the same publish under another clock would have.
fn published_later(shop: &Shop, channel: &str, seconds: i64) {
    let path = shop.repo.root().join(format!("channels/{channel}.json"));
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let was = state["date"].as_i64().unwrap();
    let later = was + seconds;
    let key = Key::load_or_make(&shop.repo.signing().key_path(), "", Algorithm::Ed25519, 0).unwrap();
    let signed = &mut state["signed"];
    let release = signed["release"].as_str().unwrap().replace(&date::release(was), &date::release(later));
    signed["inrelease"] = key.clear_sign(&release, was).unwrap().into();
    signed["release_gpg"] = key.detached(&release, was).unwrap().into();
    signed["release"] = release.into();
    if let Some(xml) = signed["repomd"]["xml"].as_str() {
        let xml = xml.replace(&was.to_string(), &later.to_string());
        signed["repomd"]["asc"] = key.detached(&xml, was).unwrap().into();
        signed["repomd"]["xml"] = xml.into();
    }
    signed["date"] = later.into();
    state["date"] = later.into();
    state.as_object_mut().unwrap().remove("seal");
    fs::remove_file(shop.repo.root().join(format!("history/{channel}/{was}.json"))).unwrap();
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
}

const YEAR: i64 = 365 * 86_400;

#[test]
fn clients_with_a_right_clock_go_on_after_a_channel_is_dated_anew() {
    let shop = Shop::new();
    let one = shop.add("greet", "1.0", "one");
    shop.publish("main", "g", &[&one]).unwrap();
    let served = Served::new(&shop.repo);
    let sources = served.get("/main.sources", &[]).text();
    let (right, wrong) = (Apt::new(&sources), Apt::new(&sources));
    right.get(&["update"]);
    wrong.get(&["update"]);
    let two = shop.add("greet", "2.0", "two");
    shop.publish("main", "g", &[&one, &two]).unwrap();
    published_later(&shop, "main", YEAR);
    let text = right.fails(&["update"]);
    assert!(text.contains("is not valid yet"), "{text}");
    // Its clock was ahead, too.
    wrong.get(&["-o", "Acquire::Max-FutureTime=63072000", "update"]);
    assert!(shop.publish("main", "g", &[&two]).is_err(), "nothing that clients take can be published");
    assert!(shop.again().redate("main", now()).unwrap().changed);
    right.get(&["update"]);
    assert!(right.get(&["install", "-s", "greet"]).contains("2.0"));
    // What it took it keeps, and finds it wrong; nothing that is sent changes that, until it forgets it.
    let text = wrong.fails(&["update"]);
    assert!(text.contains("is not valid yet"), "{text}");
    fs::remove_dir_all(wrong.path("lists")).unwrap();
    fs::create_dir_all(wrong.path("lists/partial")).unwrap();
    wrong.get(&["update"]);
    // And then as ever: forward and back.
    let three = shop.add("greet", "3.0", "three");
    shop.publish("main", "g", &[&three]).unwrap();
    for apt in [&right, &wrong] {
        apt.get(&["update"]);
        assert!(apt.get(&["install", "-s", "greet"]).contains("3.0"));
    }
    served.stop();
}

#[test]
fn dnf_follows_a_channel_that_is_dated_anew() {
    if !crate::common::has(&["dnf"]) {
        return;
    }
    let shop = Shop::new();
    let one = shop.repo.pool().ingest(&plain("greet", "1.0", "one")[..], "one").unwrap();
    shop.publish("main", "g", &[&one]).unwrap();
    published_later(&shop, "main", YEAR);
    let repo = Arc::new(shop.again());
    let served = Served::new(&repo);
    let dnf = Dnf::new(&served.get("/main.repo", &[]).text());
    let (ok, text) = dnf.run(&["makecache"]);
    assert!(ok, "{text}");
    repo.redate("main", now()).unwrap();
    let two = repo.pool().ingest(&plain("greet", "2.0", "two")[..], "two").unwrap();
    repo.publish("main", now(), |all| drop(all.insert("g".into(), [one.sha256, two.sha256].into()))).unwrap();
    let (ok, text) = dnf.run(&["--refresh", "repoquery", "--available", "greet"]);
    assert!(ok && text.contains("greet-0:2.0-1"), "{text}");
    served.stop();
}
