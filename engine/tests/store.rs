//! The embedded engine's store with real sandboxes; above all what a killed process leaves in it: the old state or the
//! new one, and nothing else.

#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use twostage_engine::{Engine, Hold, Network, pipe};
use twostage_model::Result;

/// Names the store of a process that is to be killed.
const VICTIM: &str = "TWOSTAGE_TEST_VICTIM";
/// What its images are tagged with.
const SEED: &str = "TWOSTAGE_TEST_SEED";
/// How often one is killed.
const KILLS: u64 = 30;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn open(store: &Path) -> Engine {
    Engine::embedded(Some(store), Some(env!("CARGO_BIN_EXE_twostage-sandbox").into())).await.expect("a store")
}

fn stream(bytes: Vec<u8>) -> twostage_engine::ByteStream {
    let (mut writer, stream) = pipe();
    std::thread::spawn(move || std::io::copy(&mut &bytes[..], &mut writer).and_then(|_| writer.finish()));
    stream
}

fn tar_of(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in [("content", content.as_bytes()), ("large", &[7; 300_000])] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, bytes).expect("into memory");
    }
    builder.into_inner().expect("into memory")
}

async fn saved(engine: &Engine, name: &str) -> Result<Vec<u8>> {
    let mut reader = engine.save(name).await?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    Ok(read.await.expect("no panic").expect("a whole archive"))
}

/// All that changes a store, again and again, each time another content.
async fn work(engine: &Engine, seed: &str) -> Result<()> {
    let [base, above, tagged] = ["base", "above", "tagged"].map(|name| format!("{name}:{seed}"));
    for round in 0.. {
        let content = format!("{} {round}", std::process::id());
        engine.import(stream(tar_of(&content)), &base, &[]).await?;
        let container = engine.hold(Hold { image: &base, hostname: None, network: Network::None }).await?;
        container.put(stream(tar_of(&format!("{content} above"))), true).await?;
        let id = container.commit(&above, &["LABEL a=b".into()]).await?;
        engine.tag(&id, &tagged).await?;
        let archive = saved(engine, &above).await?;
        engine.remove_image(&tagged).await?;
        engine.remove_image(&id).await?;
        engine.load(stream(archive)).await?;
        container.remove().await?;
    }
    Ok(())
}

/// Not a test: what is run to be killed.
#[test]
fn victim() {
    if let (Some(store), Ok(seed)) = (std::env::var_os(VICTIM), std::env::var(SEED)) {
        runtime().block_on(async {
            let engine = open(Path::new(&store)).await;
            work(&engine, &seed).await.expect("it works until it is killed");
        });
    }
}

#[test]
fn a_layer_may_stand_in_an_image_twice() {
    if std::env::var_os("TWOSTAGE_NO_ENGINE").is_some_and(|value| value == "1") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    runtime().block_on(async {
        let engine = open(folder.path()).await;
        engine.import(stream(tar_of("x")), "base", &[]).await.expect("imported");
        let container = engine.create("base").await.expect("made");
        for name in ["once", "twice"] {
            container.commit(name, &[]).await.expect("nothing changed, and that is a layer");
        }
        let above = engine.create("twice").await.expect("made");
        assert!(above.find("/content").await.expect("looked for").is_some());
        let layers = engine.image("twice").await.expect("asked").expect("there").diff_ids;
        assert_eq!((layers.len(), layers[1]), (3, layers[2]));
        // What an image stood on stays while another stands on it, or a container.
        engine.remove_image("base").await.expect("removed");
        engine.remove_image("twice").await.expect("removed");
        assert!(above.find("/large").await.expect("looked for").is_some());
        above.remove().await.expect("removed");
        container.remove().await.expect("removed");
        engine.remove_image("once").await.expect("removed");
        for place in ["images/blobs/sha256", "layers", "init", "containers", "incoming", "trash"] {
            assert_eq!(std::fs::read_dir(folder.path().join(place)).expect("a folder").count(), 0, "{place}");
        }
    });
}

#[test]
fn a_kill_at_any_moment_leaves_the_store_whole() {
    if std::env::var_os("TWOSTAGE_NO_ENGINE").is_some_and(|value| value == "1") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let mut seen = std::collections::BTreeSet::new();
    for kill in 0..KILLS {
        let victims: Vec<_> = ["one", "two"]
            .iter()
            .map(|seed| {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["victim", "--exact", "--nocapture"]).env(VICTIM, &store).env(SEED, seed).stdout(Stdio::null());
                command.spawn().expect("a victim")
            })
            .collect();
        std::thread::sleep(Duration::from_millis(150 + kill * 37 % 500));
        for mut victim in victims {
            assert_eq!(victim.try_wait().expect("asked"), None, "it ended before it was killed");
            victim.kill().expect("killed");
            victim.wait().expect("ended");
        }
        runtime().block_on(async {
            let engine = open(&store).await;
            for image in engine.images().await.expect("listed") {
                let name = image.tags.first().expect("a name");
                seen.insert(name.clone());
                let container = engine.create(name).await.expect("its layers unpack");
                assert!(container.find("/content").await.expect("looked for").is_some(), "{name}");
                container.remove().await.expect("removed");
                let archive = saved(&engine, name).await.expect("saved");
                assert!(twostage_image::read_archive(&archive[..], &|_| twostage_image::Want::Digest).is_ok(), "{name} is whole");
            }
            engine.settle().await;
            // What a victim had started ends with it, but a moment later, and until then it is at work.
            let left = || -> Vec<_> {
                let places = ["incoming", "containers", "trash"];
                places
                    .iter()
                    .flat_map(|place| std::fs::read_dir(store.join(place)).expect("a folder").flatten())
                    .map(|e| e.path())
                    .collect()
            };
            for _ in 0..50 {
                if left().is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                open(&store).await.settle().await;
            }
            assert!(left().is_empty(), "{:?}", left());
        });
    }
    assert!(seen.len() >= 4, "they get far enough: {seen:?}");
}
