//! `run`, with docker's options.

use super::engine::{EngineArgs, NetworkKind};
use crate::ports::PublishedPort;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(override_usage = "twostage run [OPTIONS] IMAGE [COMMAND]...")]
#[command(after_help = "It runs as the image says: its entrypoint and command, user, folder and environment; as with docker, words\n\
    behind IMAGE take the place of its command. What it writes is passed on as it comes, its standard input is\n\
    empty without -i, and nothing of the container is kept. The exit status is the command's; where twostage cannot run it, 6\n\
    and the reason.\n\n  \
    twostage run hello                          what the image does\n  \
    twostage run -p 8080:80 web                 a server at http://127.0.0.1:8080, which itself reaches nothing\n  \
    twostage run -it --entrypoint sh hello      a shell in it\n  \
    twostage run hello --version                its entrypoint, with this argument\n  \
    twostage run --entrypoint ls hello -l /     another program in it\n  \
    twostage run --network host web             a server that this machine's browser reaches\n  \
    twostage run -v \"$PWD\":/src:ro hello        with a folder of this machine\n\n\
    Its command is the first process, as with docker, and gets the signals that this program gets; three of SIGINT or\n\
    SIGTERM end it. Files of -v belong to who owns them here: root's container has other ids, for which they are nobody's;\n\
    a user's container has that user for root. Not there yet: containers that stay (-d, --name), volumes with names,\n\
    ranges and UDP in -p.")]
pub struct Run {
    /// A variable for the command; only a name takes it from the environment
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// What it can reach. Nothing, unless you say so: what is tried is not trusted yet. On `bridge` it has a network of its
    /// own with a way out, and reaches nothing that listens on this machine's 127.0.0.1; `host` is this machine's network
    #[arg(long, value_enum, value_name = "NETWORK", default_value = "none")]
    pub network: NetworkKind,
    /// Who runs it: NAME or UID, with :GROUP or not (default: as the image says)
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// The folder that it runs in (default: as the image says)
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Pass on the standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// A port of this machine, at 127.0.0.1 unless ADDRESS is said, that leads to one of the container's; of one number, to
    /// the same
    #[arg(short = 'p', long = "publish", value_name = "[ADDRESS:][PORT:]PORT")]
    pub publish: Vec<PublishedPort>,
    /// A file or folder of this machine that it sees; `ro` for read-only
    #[arg(short = 'v', long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    pub volumes: Vec<Volume>,
    /// What the container's machine is called
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    pub hostname: Option<String>,
    /// Another program than the image's entrypoint; "" for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Nothing of the container is kept, with or without this: docker needs to be told
    #[arg(long)]
    pub rm: bool,
    // As elsewhere, but for their short forms, which are docker's here.
    /// The project file, or the folder that it is in
    #[arg(id = "project", long = "project", default_value = ".", value_name = "PATH")]
    pub _project: PathBuf,
    /// Show what builders and package managers say, too
    #[arg(id = "verbose", long = "verbose", action = clap::ArgAction::Count)]
    pub _verbose: u8,
    #[command(flatten)]
    pub not_yet: NotYet,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The image, by a name or an id that the engine knows; all behind it is the command to run instead of the image's
    // (One list, so that what looks like an option of ours behind the image is none.)
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true)]
    pub words: Vec<String>,
}

/// Options of docker's that are refused, with what to do instead.
#[derive(Args)]
pub struct NotYet {
    #[arg(short, long, hide = true)]
    detach: bool,
    #[arg(long, hide = true)]
    init: bool,
    #[arg(long, hide = true)]
    privileged: bool,
    #[arg(long, hide = true)]
    read_only: bool,
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    #[arg(long, hide = true)]
    name: Option<String>,
    #[arg(long, hide = true)]
    env_file: Option<String>,
    #[arg(long, hide = true)]
    mount: Option<String>,
    #[arg(long, hide = true)]
    tmpfs: Option<String>,
    #[arg(long, hide = true)]
    cap_add: Option<String>,
    #[arg(long, hide = true)]
    cap_drop: Option<String>,
    #[arg(long, hide = true)]
    device: Option<String>,
    #[arg(long, hide = true)]
    restart: Option<String>,
    #[arg(long, hide = true)]
    platform: Option<String>,
    #[arg(long, hide = true)]
    add_host: Option<String>,
}

impl NotYet {
    /// The first one that is given, and what to do instead.
    pub fn first(&self) -> Option<(&'static str, &'static str)> {
        let kept = "nothing of a container is kept, so it ends with this program; `twostage load` gives the image to Docker or Podman";
        let given = |option: &Option<String>| option.is_some();
        let all = [
            (self.detach, "--detach", kept),
            (given(&self.name), "--name", kept),
            (given(&self.restart), "--restart", kept),
            (self.init, "--init", "the command is the first process; start it by a program that reaps, such as tini, in the image"),
            (self.privileged, "--privileged", "containers have the rights of Docker's usual ones"),
            (given(&self.cap_add), "--cap-add", "containers have the rights of Docker's usual ones"),
            (given(&self.cap_drop), "--cap-drop", "containers have the rights of Docker's usual ones; --user takes them away"),
            (given(&self.device), "--device", "containers see no devices of the machine"),
            (self.read_only, "--read-only", "nothing that is written is kept"),
            (self.publish_all, "--publish-all", "name each port: -p 8080:80"),
            (given(&self.env_file), "--env-file", "name each variable: -e NAME=VALUE"),
            (given(&self.mount), "--mount", "files and folders of this machine: -v HOST:CONTAINER[:ro]"),
            (given(&self.tmpfs), "--tmpfs", "what is written is not kept anywhere"),
            (given(&self.platform), "--platform", "an image of another architecture is run as it is, where this machine can"),
            (given(&self.add_host), "--add-host", "names are this machine's: /etc/hosts counts"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, option, instead)| (option, instead))
    }
}

/// A file or folder of this machine in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

impl std::str::FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Volume, String> {
        let form = "write HOST:CONTAINER or HOST:CONTAINER:ro, both absolute";
        let (source, rest) =
            text.split_once(':').ok_or("volumes without a place on this machine are not there yet: write HOST:CONTAINER")?;
        let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // What SELinux is to do, and who sees mounts: nothing here.
                "rw" | "z" | "Z" | "rprivate" | "private" => {}
                other => return Err(format!("{other} is no option of -v that is there: {form}")),
            }
        }
        if !source.starts_with('/') {
            let instead = "write the path from / on, such as \"$PWD\":/src";
            return Err(if source.starts_with('.') { instead.into() } else { format!("volumes with names are not there yet: {instead}") });
        }
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
            return Err(form.into());
        }
        Ok(Volume { source: source.into(), target: target.into(), read_only })
    }
}

/// A name of a machine (hostname(7)); nothing is no name.
fn hostname(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    match text.len() <= 64 && text.chars().all(fine) && !text.starts_with(['-', '.']) {
        true => Ok(text.to_string()),
        false => Err("write letters, digits, - and . , 64 of them at most".into()),
    }
}

impl Run {
    /// The image.
    pub fn image(&self) -> &str {
        self.words.first().map(String::as_str).unwrap_or_default()
    }

    /// What is to be run in it; nothing means the image's own.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_written_as_docker_takes_them() {
        let of = |text: &str| text.parse::<Volume>().map(|volume| (volume.source.display().to_string(), volume.target, volume.read_only));
        let volume = |source: &str, target: &str, read_only| Ok((source.to_string(), target.to_string(), read_only));
        assert_eq!(of("/a:/b"), volume("/a", "/b", false));
        assert_eq!(of("/a b:/b:ro,z"), volume("/a b", "/b", true));
        for (wrong, why) in [
            ("/a", "not there yet"),
            ("data:/b", "volumes with names"),
            ("./a:/b", "from / on"),
            ("/a:b", "absolute"),
            ("/a:/b/../c", "absolute"),
            ("/a:/b:rx", "no option"),
        ] {
            assert!(of(wrong).is_err_and(|said| said.contains(why)), "{wrong}: {:?}", of(wrong));
        }
    }
}
