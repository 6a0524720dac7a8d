//! A mount of a RUN, its variables expanded and its defaults known. BuildKit's `parseMount` (second half),
//! `validateMount`, `dispatchRunMounts`, `dispatchSecret`.

use super::flags::{self, MountKey, MountSpec, unknown_type};
use super::plan::Origin;
use super::{At, values};
use twostage_model::Result;

/// Something that a RUN sees and that is not in its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Files of the context, a stage or an image.
    Bind {
        /// Whose files.
        origin: Origin,
        /// Absolute there, without `..`.
        source: String,
        /// Absolute in the container, without `..`, never `/`.
        target: String,
        /// The RUN may write; what it writes is dropped.
        writable: bool,
    },
    /// A folder that stays from one build to the next.
    Cache {
        /// Which one.
        id: String,
        /// What two RUNs do that want it at the same time.
        sharing: Sharing,
        /// What it holds when it is new.
        origin: Origin,
        /// Absolute there, without `..`.
        source: String,
        /// Absolute in the container, without `..`, never `/`.
        target: String,
        /// The RUN cannot write.
        read_only: bool,
        /// Mode and owner of a new one.
        owner: Owner,
    },
    /// Memory.
    Tmpfs {
        /// Absolute in the container, without `..`, never `/`.
        target: String,
        /// Bytes at most; nothing means the engine's limit.
        size: Option<u64>,
    },
    /// Something that is given to the build and never in an image.
    Secret {
        /// Its name.
        id: String,
        /// The file that it is in: absolute in the container, without `..`, never `/`.
        target: Option<String>,
        /// The variable that it is in.
        env: Option<String>,
        /// Without it the build fails; else the file or variable is not there.
        required: bool,
        /// Mode and owner of the file.
        owner: Owner,
    },
    /// The socket of an agent that has keys of SSH.
    Ssh {
        /// Its name.
        id: String,
        /// Absolute in the container, without `..`, never `/`.
        target: String,
        /// Without it the build fails; else the socket is not there.
        required: bool,
        /// Mode and owner of the socket.
        owner: Owner,
    },
}

/// What says where the socket of an agent is.
pub const AGENT: &str = "SSH_AUTH_SOCK";
/// The agent that a mount means which names none.
pub const DEFAULT_AGENT: &str = "default";

/// Mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permissions.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What two RUNs do that want one cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Both use it.
    Shared,
    /// Each has one of its own.
    Private,
    /// One waits.
    Locked,
}

#[derive(Default)]
struct Given {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: Option<bool>,
    read_only: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

/// Expands and checks one mount. `from` is what its `from=` names, `workdir` what a relative target starts from, `agents` how
/// many mounts of the RUN before it are agents of SSH.
pub(super) fn resolve(
    at: &At,
    spec: &MountSpec,
    from: Option<Origin>,
    workdir: &str,
    agents: usize,
    mut expand: impl FnMut(&str) -> Result<String>,
) -> Result<Mount> {
    let mut given = Given { kind: "bind".into(), ..Given::default() };
    for field in &spec.fields {
        let value = match &field.value {
            Some(value) => expand(value)?,
            None => "true".to_owned(),
        };
        let wrong = |hint: &str| at.error(format!("{value:?} in a mount is not understood"), hint);
        match field.key {
            MountKey::Type => given.kind = value.to_lowercase(),
            MountKey::From => {}
            MountKey::Source => given.source = Some(value).filter(|value| !value.is_empty()),
            MountKey::Target => given.target = Some(value).filter(|value| !value.is_empty()),
            MountKey::Id => given.id = Some(value).filter(|value| !value.is_empty()),
            MountKey::ReadOnly => given.read_only = Some(boolean(&value).ok_or_else(|| wrong("write true or false"))?),
            MountKey::ReadWrite => given.read_only = Some(!boolean(&value).ok_or_else(|| wrong("write true or false"))?),
            MountKey::Required => given.required = Some(boolean(&value).ok_or_else(|| wrong("write true or false"))?),
            MountKey::Size => given.size = Some(flags::bytes(&value).ok_or_else(|| wrong("write a size like 64m"))?),
            MountKey::Mode => given.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| wrong("write a mode like 0755"))?),
            MountKey::Uid => given.uid = Some(value.parse().map_err(|_| wrong("write a number"))?),
            MountKey::Gid => given.gid = Some(value.parse().map_err(|_| wrong("write a number"))?),
            MountKey::Env => given.env = Some(value).filter(|value| !value.is_empty()),
            MountKey::Sharing => {
                given.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(wrong("write shared, private or locked")),
                });
            }
        }
    }
    given.check(at, from.is_some())?;
    let owner = |mode| Owner { mode: given.mode.unwrap_or(mode), uid: given.uid.unwrap_or(0), gid: given.gid.unwrap_or(0) };
    let place = |target: &str, start: &str| {
        let target = values::join(start, target);
        if target == "/" {
            return Err(at.error("a mount cannot hide the whole root", "write target= and a folder"));
        }
        Ok(target)
    };
    let source = values::join("/", given.source.as_deref().unwrap_or_default());
    let target = given.target.as_deref().unwrap_or_default();
    match given.kind.as_str() {
        "bind" => Ok(Mount::Bind {
            origin: from.unwrap_or(Origin::Context),
            source,
            target: place(target, workdir)?,
            writable: given.read_only == Some(false),
        }),
        "cache" => {
            let target = place(target, workdir)?;
            let id = given.id.clone().unwrap_or_else(|| target.clone());
            let sharing = given.sharing.unwrap_or(Sharing::Shared);
            let read_only = given.read_only.unwrap_or(false);
            Ok(Mount::Cache { id, sharing, origin: from.unwrap_or(Origin::Scratch), source, target, read_only, owner: owner(0o755) })
        }
        "tmpfs" => Ok(Mount::Tmpfs { target: place(target, workdir)?, size: given.size }),
        "secret" => {
            let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            let id = given.source.clone().or(given.id.clone()).unwrap_or_else(|| last(target));
            // (One that is in a variable is in a file only if that is asked for.)
            let target = match (target, &given.env) {
                ("", Some(_)) => None,
                ("", None) => Some(place(&format!("/run/secrets/{}", last(&id)), "/")?),
                (target, _) => Some(place(target, "/")?),
            };
            if let Some(name) = given.env.as_ref().filter(|name| name.contains(['=', '\0'])) {
                return Err(at.error(format!("{name:?} cannot be the name of a variable"), "write env=NAME"));
            }
            Ok(Mount::Secret { id, target, env: given.env.clone(), required: given.required.unwrap_or(false), owner: owner(0o400) })
        }
        "ssh" => {
            let target = if target.is_empty() { format!("/run/buildkit/ssh_agent.{agents}") } else { target.to_owned() };
            let id = given.id.clone().unwrap_or_else(|| DEFAULT_AGENT.to_owned());
            Ok(Mount::Ssh { id, target: place(&target, "/")?, required: given.required.unwrap_or(false), owner: owner(0o600) })
        }
        kind => Err(unknown_type(at, kind)),
    }
}

impl Given {
    /// Refuses what does not go with the type.
    fn check(&self, at: &At, from: bool) -> Result<()> {
        let kind = self.kind.as_str();
        let only = |there: bool, field: &str, kinds: &[&str]| {
            if there && !kinds.contains(&kind) {
                return Err(at.error(format!("{field} does not go with a mount of type {kind}"), format!("remove {field} from the mount")));
            }
            Ok(())
        };
        only(self.mode.is_some(), "mode", &["cache", "secret", "ssh"])?;
        only(self.uid.is_some(), "uid", &["cache", "secret", "ssh"])?;
        only(self.gid.is_some(), "gid", &["cache", "secret", "ssh"])?;
        only(self.required.is_some(), "required", &["secret", "ssh"])?;
        only(self.env.is_some(), "env", &["secret"])?;
        only(kind == "ssh" && self.source.is_some(), "source", &[])?;
        only(self.size.is_some(), "size", &["tmpfs"])?;
        only(self.sharing.is_some(), "sharing", &["cache"])?;
        only(from, "from", &["bind", "cache"])?;
        if kind == "secret" && self.source.is_some() && self.id.is_some() {
            return Err(at.error("source and id of a secret are the same thing", "keep id"));
        }
        if kind == "secret" && self.source.is_none() && self.id.is_none() && self.target.is_none() {
            return Err(at.error("the secret has no name", "write --mount=type=secret,id=NAME"));
        }
        Ok(())
    }
}

/// `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
