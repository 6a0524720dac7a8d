//! What Podman does otherwise, all of it. Tried on Podman 4.3.1 (Debian bookworm).
//!
//! | where | Podman | what we do |
//! |---|---|---|
//! | names | completes a short name itself, also in FROM: `docker.io/library/` (or `localhost/` where `compat_api_enforce_docker_hub` is off) | give short names, show short names ([`Dialect::shown`]) |
//! | import | reads no `tag` | the whole name is in `repo`, for Docker too (`images.rs`) |
//! | import | takes all `changes` that bollard sends for one | refused where there is more than one (`images.rs`) |
//! | import | makes an empty image of a stream that breaks off, now and then, and some time after it said that it failed | it imports under a name that nobody asks for ([`Dialect::import_name`]), and the image gets its own when it is whole |
//! | commit | reads no config of the body | `changes`, for Docker too (`containers.rs`) |
//! | commit | keeps the run's entrypoint, and gives an id without `sha256:` | [`Dialect::before_changes`], [`Dialect::id`] |
//! | build: cache | takes a step that was made on another network, or with other hosts | [`Dialect::no_cache`] |
//! | build: log | `STEP 2/3: RUN …`, with stages `[1/2] STEP …`; what a step writes to stdout and stderr is one stream; the exit status at the end of the error | [`Dialect::step`], [`Dialect::exit_status`] |
//! | build: containers | a failed build leaves its own, which no list of the API shows | `forcerm`, for Docker too (`build.rs`) |
//! | build: cancelled | the step that is being run goes on to its end; then the build stops and tags nothing | nothing can be done from outside |
//! | build: layer | holds the files that a container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are mounted on, if the base has none | the audit names them |
//! | layers | no names of users and groups beside their numbers, and new folders are not marked opaque, so other diff_ids than Docker's for the same files | see `docs/decisions/podman.md` |
//! | wait | asks in a loop without a pause, and so takes a whole core while a container runs | [`Dialect::polls`] |
//! | inspect | says `stopped` until the container is cleaned up, a word that Docker's API does not have | [`Dialect::is_ending`] |
//! | inspect | of one that somebody stops (`stopping`) says that it does not run, with an exit status of 0, while its program still does | asked on (`containers.rs`) |
//! | copy out | a folder's entry has no slash at its end | readers look at the entry's type |
//! | networks | `bridge` is its default network, whatever that is called; its address is there only while, or once, a container is on it | host networking is tried first (`reach.rs`) |

use super::fault;
use crate::Kind;
use bollard::errors::Error as ApiError;
use bollard::models::SystemVersion;
use std::time::Duration;

/// How the engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Docker,
    Podman,
}

impl Dialect {
    /// Podman names itself among the components of its version, as `Podman Engine`.
    pub(super) fn of(version: &SystemVersion) -> Dialect {
        let named = |name: &str| name.to_ascii_lowercase().contains("podman");
        match version.components.iter().flatten().any(|component| named(&component.name)) {
            true => Dialect::Podman,
            false => Dialect::Docker,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Dialect::Docker => Kind::Docker,
            Dialect::Podman => Kind::Podman,
        }
    }

    /// A name as it was given: without what Podman completed it with.
    pub(super) fn shown(self, name: &str) -> &str {
        let completed = |prefix| name.strip_prefix(prefix).filter(|rest| !rest.contains('/'));
        match self {
            Dialect::Docker => name,
            Dialect::Podman => completed("docker.io/library/").or_else(|| completed("localhost/")).unwrap_or(name),
        }
    }

    /// The name to import under, where the engine may make an image of what broke off.
    pub(super) fn import_name(self, repository: &str) -> Option<String> {
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        (self == Dialect::Podman).then(|| format!("{repository}-incoming:{}-{unique}", std::process::id()))
    }

    /// An image's id, `sha256:…`.
    pub(super) fn id(self, id: String) -> String {
        let bare = self == Dialect::Podman && id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if bare { format!("sha256:{id}") } else { id }
    }

    /// What a commit must change before anything else, so that no entrypoint is left.
    pub(super) fn before_changes(self) -> Option<String> {
        (self == Dialect::Podman).then(|| "ENTRYPOINT []".to_string())
    }

    /// Whether a build must not look into the engine's cache. Podman's knows neither network nor
    /// hosts, and nothing that a build can say makes it tell them apart without being in the image.
    pub(super) fn no_cache(self, wanted: bool) -> bool {
        wanted || self == Dialect::Podman
    }

    /// The step that a line of a build's log begins: `2/3, RUN true`.
    pub(super) fn step(self, line: &str) -> Option<String> {
        let (mark, end) = match self {
            Dialect::Docker => ("Step ", " : "),
            Dialect::Podman => ("STEP ", ": "),
        };
        let line = match (self, line.split_once("] ")) {
            (Dialect::Podman, Some((stage, rest))) if stage.starts_with('[') => rest,
            _ => line,
        };
        line.strip_prefix(mark).filter(|step| step.contains(end)).map(|step| step.trim().replacen(end, ", ", 1))
    }

    /// The exit status in what a builder says of a failed step.
    pub(super) fn exit_status(self, message: &str) -> Option<i64> {
        let mark = match self {
            Dialect::Docker => "returned a non-zero code: ",
            Dialect::Podman => "exit status ",
        };
        let digits = &message[message.rfind(mark)? + mark.len()..];
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// How often to ask whether a container has ended; none where the engine tells.
    pub(super) fn polls(self) -> Option<Duration> {
        (self == Dialect::Podman).then_some(Duration::from_millis(150))
    }

    /// Whether this answer to an inspection means that the container has ended and its exit status
    /// is about to be known.
    pub(super) fn is_ending(self, error: &ApiError) -> bool {
        self == Dialect::Podman && fault::reason(error).contains("unknown variant `stopped`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::SystemVersionComponents;

    #[test]
    fn podman_is_known_by_its_components() {
        let version = |name: &str| SystemVersion {
            components: Some(vec![SystemVersionComponents { name: name.into(), ..Default::default() }]),
            ..Default::default()
        };
        assert_eq!(Dialect::of(&version("Podman Engine")), Dialect::Podman);
        assert_eq!(Dialect::of(&version("Engine")), Dialect::Docker);
        assert_eq!(Dialect::of(&SystemVersion::default()), Dialect::Docker);
    }

    #[test]
    fn what_podman_completes_a_name_with_is_not_shown() {
        assert_eq!(Dialect::Podman.shown("docker.io/library/hello:latest"), "hello:latest");
        assert_eq!(Dialect::Podman.shown("localhost/hello:latest"), "hello:latest");
        for name in ["docker.io/team/hello:1", "localhost/team/hello:1", "localhost:5000/hello:1", "hello:1"] {
            assert_eq!(Dialect::Podman.shown(name), name);
        }
        assert_eq!(Dialect::Docker.shown("localhost/hello:latest"), "localhost/hello:latest");
    }

    #[test]
    fn steps_and_exit_statuses_are_read_in_both_dialects() {
        assert_eq!(Dialect::Docker.step("Step 2/3 : RUN a : b\n"), Some("2/3, RUN a : b".into()));
        assert_eq!(Dialect::Podman.step("STEP 2/3: RUN a: b\n"), Some("2/3, RUN a: b".into()));
        assert_eq!(Dialect::Podman.step("[1/2] STEP 4/5: RUN [ a ] \n"), Some("4/5, RUN [ a ]".into()));
        assert_eq!(Dialect::Podman.step("Step by step\n"), None);
        let docker = "The command '/bin/sh -c exit 100' returned a non-zero code: 100";
        let podman = "building at STEP \"RUN exit 42\": while running runtime: exit status 42\n";
        assert_eq!((Dialect::Docker.exit_status(docker), Dialect::Podman.exit_status(podman)), (Some(100), Some(42)));
        assert_eq!(Dialect::Docker.exit_status("COPY failed: file not found"), None);
    }
}
