//! Real apt of this host in folders of its own, and a project that publishes ready packages.

use crate::support::{Done, give_key, run, twostage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A project of no components: what is in its channel was given to `publish`.
pub struct Shop(tempfile::TempDir);

impl Shop {
    pub fn new(test: &str) -> Shop {
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let project = "[project]\nname = \"shop\"\n[base]\nbootstrap = \"debian:bookworm\"\n";
        fs::write(folder.path().join("twostage.toml"), project).expect("a project file");
        give_key(folder.path());
        Shop(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = twostage();
        command.arg("--project").arg(self.path()).args(arguments);
        command
    }
}

/// An apt that knows one client file and nothing of this machine.
pub struct Apt(tempfile::TempDir);

impl Apt {
    /// With the client file of the channel `main` of this server.
    pub fn new(server: &str, architectures: &[String]) -> Apt {
        Apt::of(&crate::support::http_get(server, "/main.sources"), architectures)
    }

    /// With this client file.
    pub fn of(client_file: &[u8], architectures: &[String]) -> Apt {
        let apt = Apt(tempfile::tempdir().expect("a folder"));
        for folder in ["sources", "lists/partial", "cache/archives/partial", "got", "none"] {
            fs::create_dir_all(apt.path(folder)).expect("a folder");
        }
        fs::write(apt.path("status"), "").expect("a file");
        fs::write(apt.path("sources/main.sources"), client_file).expect("a file");
        let at = |name: &str| apt.path(name).display().to_string();
        let listed: String = architectures.iter().map(|name| format!("APT::Architectures:: \"{name}\";\n")).collect();
        let text = format!(
            "Dir::Etc::parts \"{none}\";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{}\";\nDir::Etc::trusted \"/dev/null\";\n\
             Dir::Etc::trustedparts \"{none}\";\nDir::Etc::preferencesparts \"{none}\";\nDir::State::lists \"{}\";\nDir::State::status \"{}\";\n\
             Dir::Cache \"{}\";\nAPT::Architecture \"amd64\";\n#clear APT::Architectures;\n{listed}APT::Sandbox::User \"root\";\n\
             APT::Update::Error-Mode \"any\";\nAcquire::Retries \"0\";\nAcquire::http::Proxy \"DIRECT\";\nAcquire::Languages \"none\";\n",
            at("sources"),
            at("lists"),
            at("status"),
            at("cache"),
            none = at("none"),
        );
        fs::write(apt.path("apt.conf"), text).expect("a file");
        apt
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn run(&self, tool: &str, arguments: &[&str]) -> Done {
        run(Command::new(tool).args(arguments).env("APT_CONFIG", self.path("apt.conf")).env("LC_ALL", "C").current_dir(self.path("got")))
    }
}
