//! What runs the containers of a test: this machine's Docker, or the engine that needs no daemon, with a store of its
//! own. Both are asked the same.

use crate::support::{Done, docker, run, tool, twostage};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("JSON")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Docker,
    /// Nothing is asked of it but by our own command, and its store is read as the OCI layout that it is. It has a
    /// name, which tests may share.
    Embedded(&'static str),
}

/// The store that most tests share.
pub const EMBEDDED: On = On::Embedded("store");

impl On {
    /// The embedded engine's folder. (`support::forget_earlier_builds` removes it later.)
    pub fn store(self) -> PathBuf {
        let On::Embedded(name) = self else { panic!("Docker keeps its own") };
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-{}-{name}", std::process::id()))
    }

    /// Makes a command of ours use it.
    pub fn choose(self, command: &mut Command) {
        if self != On::Docker {
            command.env("TWOSTAGE_ENGINE", "embedded").env("TWOSTAGE_STORE", self.store());
        }
    }

    /// Our command, on it.
    pub fn twostage(self, arguments: &[&str]) -> Done {
        let mut command = twostage();
        self.choose(&mut command);
        run(command.args(arguments))
    }

    /// The id and the configuration of an image, if there is one of that name.
    fn image(self, name: &str) -> Option<(String, Value)> {
        if self == On::Docker {
            let found = docker(&["image", "inspect", name]);
            let image = (found.status == 0).then(|| parse(found.out.as_bytes())[0].take())?;
            let id = image["Id"].as_str().expect("an id").to_string();
            return Some((id, serde_json::json!({ "config": image["Config"], "rootfs": { "diff_ids": image["RootFS"]["Layers"] } })));
        }
        let name = if name.contains(':') { name.to_string() } else { format!("{name}:latest") };
        let index = self.index();
        let image = index.iter().find(|image| image["annotations"]["org.opencontainers.image.ref.name"] == name.as_str())?;
        Some(self.of_manifest(image))
    }

    /// The images of a store.
    fn index(self) -> Vec<Value> {
        let index = parse(&fs::read(self.store().join("images/index.json")).expect("the index"));
        index["manifests"].as_array().expect("manifests").clone()
    }

    /// Id and configuration of what the index of a store names.
    fn of_manifest(self, image: &Value) -> (String, Value) {
        let blob = |digest: &Value| {
            let digest = digest.as_str().expect("a digest").trim_start_matches("sha256:");
            parse(&fs::read(self.store().join("images/blobs/sha256").join(digest)).expect("a blob"))
        };
        let config = &blob(&image["digest"])["config"]["digest"];
        (config.as_str().expect("a digest").to_string(), blob(config))
    }

    pub fn id_of(self, name: &str) -> Option<String> {
        self.image(name).map(|(id, _)| id)
    }

    /// Ids of the images, with a name or without, that have this label.
    pub fn ids_with(self, label: &str, value: &str) -> Vec<String> {
        if self == On::Docker {
            let filter = format!("label={label}={value}");
            return docker(&["images", "--no-trunc", "--quiet", "--filter", &filter]).ok().out.lines().map(String::from).collect();
        }
        let mut ids: Vec<String> = self
            .index()
            .iter()
            .map(|image| self.of_manifest(image))
            .filter(|(_, config)| config["config"]["Labels"][label] == value)
            .map(|(id, _)| id)
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The digests of an image's layers.
    pub fn diff_ids(self, name: &str) -> Vec<String> {
        let (_, image) = self.image(name).unwrap_or_else(|| panic!("there is no image {name}"));
        serde_json::from_value(image["rootfs"]["diff_ids"].clone()).expect("digests")
    }

    pub fn label(self, name: &str, label: &str) -> String {
        let (_, image) = self.image(name).unwrap_or_else(|| panic!("there is no image {name}"));
        image["config"]["Labels"][label].as_str().unwrap_or_default().to_string()
    }

    /// What a command in the image prints; without one, what the image does.
    pub fn run(self, image: &str, command: &[&str]) -> String {
        match self {
            On::Docker => docker(&[&["run", "--rm", "--network=none", image], command].concat()).ok().out,
            On::Embedded(_) => self.twostage(&[&["run", "--network", "none", image], command].concat()).ok().out,
        }
    }

    /// Writes the image as an archive as docker's.
    pub fn save(self, image: &str, path: &Path) {
        let path = path.to_string_lossy();
        match self {
            On::Docker => docker(&["save", "--output", &path, image]).ok(),
            On::Embedded(_) => {
                let from = format!("oci:{}:{image}:latest", self.store().join("images").display());
                tool("skopeo", &["copy", "--quiet", &from, &format!("docker-archive:{path}:{image}:latest")]).ok()
            }
        };
    }

    /// Builds the Dockerfile of a folder, with the machine's network.
    pub fn build(self, folder: &Path, tag: &str) -> Done {
        let folder = folder.to_string_lossy();
        match self {
            On::Docker => docker(&["build", "--network=host", "--tag", tag, &folder]),
            On::Embedded(_) => self.twostage(&["compile", "--network=host", "--tag", tag, &folder]),
        }
    }

    /// Removes what has that name, if anything.
    pub fn remove(self, image: &str) {
        if self == On::Docker {
            docker(&["image", "rm", "--force", image]);
        }
    }

    /// A build by somebody who has nothing but the Dockerfile, and knows besides only of the server, as `http_proxy`.
    pub fn plain_build(self, dockerfile: &Path, server: &str, tag: &str) -> Done {
        let proxy = format!("http_proxy=http://{server}");
        if self == On::Docker {
            let text = fs::File::open(dockerfile).expect("the Dockerfile");
            let arguments = ["build", "--force-rm", "--no-cache", "--network=host", "--build-arg", &proxy, "--tag", tag, "-"];
            let mut done = run(Command::new("docker").args(arguments).stdin(text));
            // The classic client writes a step's stderr to its own stdout.
            done.err.push_str(&done.out);
            return done;
        }
        let context = tempfile::tempdir().expect("a folder");
        let file = dockerfile.to_string_lossy();
        self.twostage(&[
            "-v",
            "compile",
            "--no-cache",
            "--network=host",
            "--build-arg",
            &proxy,
            "--tag",
            tag,
            "--file",
            &file,
            &context.path().to_string_lossy(),
        ])
    }
}
