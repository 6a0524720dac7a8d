//! What the command line of `compile` names, as docker takes it.

use crate::images::Place;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twostage_engine::dockerfile::{MAX_BYTES, NamedContext, familiar};
use twostage_engine::execute::Context;
use twostage_engine::{Engine, Kind};
use twostage_image::{Compression, NewImage, Tarball};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Bytes of a context that comes from standard input, unpacked, at most: it is held in memory.
const MAX_CONTEXT: u64 = 1 << 30;
/// What stands for standard input.
const STDIN: &str = "-";

/// The Dockerfile and where its COPYs take files from.
pub struct Sources {
    pub text: Vec<u8>,
    pub context: Context,
    /// What this build is told from others by: the Dockerfile, or the folder that it is built in.
    pub path: PathBuf,
    /// That, open, to be locked.
    pub file: File,
}

impl Sources {
    /// Reads what `compile FOLDER -f FILE` names.
    ///
    /// # Errors
    /// It is not there, cannot be read, or both are to come from standard input.
    pub fn read(folder: &Path, file: Option<&Path>) -> Result<Sources> {
        let stdin = Path::new(STDIN);
        let here = |folder: &Path| {
            let fail = || format!("cannot open the folder {}", folder.display());
            let path = folder.canonicalize().or_fail(Class::Usage, fail)?;
            let file = File::open(&path).or_fail(Class::Usage, fail)?;
            Ok::<_, Error>((path, file))
        };
        if folder == stdin && file == Some(stdin) {
            return Err(Error::new(Class::Usage, "the Dockerfile and the context cannot both come from standard input")
                .hint("name a folder as the context, or leave -f away"));
        }
        if folder == stdin {
            let (path, locked) = here(Path::new("."))?;
            let (text, context) = from_stdin(std::io::stdin().lock(), file)?;
            return Ok(Sources { text, context, path: path.join(STDIN), file: locked });
        }
        if file == Some(stdin) {
            let (path, locked) = here(folder)?;
            let text = dockerfile(std::io::stdin().lock(), "standard input")?;
            return Ok(Sources { text, context: Context::open(folder, None)?, path: path.join(STDIN), file: locked });
        }
        let path = file.map_or_else(|| folder.join("Dockerfile"), Path::to_path_buf);
        let fail = || format!("cannot read the Dockerfile {}", path.display());
        let path = path.canonicalize().map_err(|cause| {
            let hint = match (file, folder.is_dir()) {
                (None, true) => "name it with -f, where it is called otherwise".to_string(),
                (None, false) => format!("there is no folder {}: name the one that COPY takes files from", folder.display()),
                (Some(_), _) => "correct the path behind -f".to_string(),
            };
            Error::new(Class::Usage, fail()).because(cause).hint(hint)
        })?;
        let file = File::open(&path).or_fail(Class::Project, fail)?;
        let text = dockerfile(&file, &path.display().to_string())?;
        Ok(Sources { text, context: Context::open(folder, Some(&path))?, path, file })
    }
}

fn dockerfile(from: impl Read, name: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).or_fail(Class::Project, || format!("cannot read the Dockerfile {name}"))?;
    Ok(text)
}

/// A Dockerfile without a context, or a tar of a context, perhaps compressed, that the Dockerfile is in.
fn from_stdin(from: impl Read, file: Option<&Path>) -> Result<(Vec<u8>, Context)> {
    let fail = || "cannot read standard input".to_string();
    let mut bytes = Vec::new();
    from.take(MAX_CONTEXT + 1).read_to_end(&mut bytes).or_fail(Class::System, fail)?;
    let too_long = || {
        Error::new(Class::Usage, format!("the context on standard input cannot be unpacked, or has more than {MAX_CONTEXT} bytes"))
            .hint("unpack it, and name its folder")
    };
    if bytes.len() as u64 > MAX_CONTEXT {
        return Err(too_long());
    }
    let plain = twostage_package::unpacked(Cursor::new(&bytes), MAX_CONTEXT, |plain| {
        let mut first = vec![0; 512];
        let mut read = 0;
        while let Some(rest) = first.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match plain.read(rest)? {
                0 => break,
                count => read += count,
            }
        }
        first.truncate(read);
        if !matches!(Tarball::new(Cursor::new(&first)).next(), Ok(Some(_))) {
            return Ok(None);
        }
        plain.take(MAX_CONTEXT + 1).read_to_end(&mut first)?;
        Ok::<_, std::io::Error>(Some(first))
    });
    let tar = match plain {
        Ok(Ok(tar)) => tar,
        // What is packed and cannot be unpacked is no Dockerfile either.
        Ok(Err(_)) | Err(_) if twostage_image::is_packed(&bytes) => return Err(too_long()),
        // (Neither packed nor a tar.)
        Ok(Err(_)) | Err(_) => None,
    };
    let Some(tar) = tar else {
        if file.is_some() {
            return Err(Error::new(Class::Usage, "what comes from standard input is no tar, and -f names a file in one")
                .hint("leave -f away: the Dockerfile itself is read from standard input then"));
        }
        return Ok((bytes, Context::empty()));
    };
    if tar.len() as u64 > MAX_CONTEXT {
        return Err(too_long());
    }
    let name = file.map_or_else(|| "Dockerfile".to_string(), |file| file.to_string_lossy().into_owned());
    let context = Context::packed(tar, &name)?;
    let text = context.bytes(&name, MAX_BYTES as u64)?;
    match text {
        Some(text) => Ok((text, context)),
        None if context.has_other(&name)? => Err(Error::new(Class::Usage, format!("{name} in the tar on standard input is no file"))
            .hint("pack the file itself, and once: of several of one name the last counts")),
        None => {
            Err(Error::new(Class::Usage, format!("there is no {name} in the tar on standard input"))
                .hint("name the one that is there with -f"))
        }
    }
}

/// `NAME=VALUE`, or only NAME: what the environment says.
pub fn build_arguments(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::new(Class::Usage, format!("--build-arg {text} has no name")).hint("write NAME=VALUE")),
            Some((name, value)) => {
                arguments.insert(name.to_string(), value.to_string());
            }
            None => {
                // (One that the environment does not have is not given, as with docker.)
                if let Ok(value) = std::env::var(text) {
                    arguments.insert(text.clone(), value);
                }
            }
        }
    }
    Ok(arguments)
}

/// `id=NAME,src=FILE`, as docker takes it.
pub fn secrets(given: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let fields: BTreeMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
        let file = fields.get("src").or_else(|| fields.get("source"));
        let (Some(id), Some(file)) = (fields.get("id").filter(|id| !id.is_empty()), file.filter(|file| !file.is_empty())) else {
            return Err(Error::new(Class::Usage, format!("--secret {text} names no secret and its file")).hint("write id=NAME,src=FILE"));
        };
        secrets.insert((*id).to_string(), PathBuf::from(file));
    }
    Ok(secrets)
}

/// `NAME=SOCKET`, or only NAME: the socket that `SSH_AUTH_SOCK` says.
pub fn agents(given: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for text in given {
        let (name, socket) = text.split_once('=').map_or((text.as_str(), None), |(name, socket)| (name, Some(PathBuf::from(socket))));
        let wrong = |what: String| Error::new(Class::Usage, format!("--ssh {text}: {what}"));
        if name.is_empty() {
            return Err(wrong("it names no agent".into()).hint("write --ssh default, or --ssh NAME=SOCKET"));
        }
        let socket = match socket {
            Some(socket) => socket,
            None => std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from).ok_or_else(|| {
                wrong("SSH_AUTH_SOCK is not set".into())
                    .hint("start an agent: eval $(ssh-agent); ssh-add; or name its socket: --ssh NAME=SOCKET")
            })?,
        };
        let found = fs::metadata(&socket).map_err(|cause| wrong(format!("cannot find {}", socket.display())).because(cause))?;
        if !found.file_type().is_socket() {
            return Err(wrong(format!("{} is no socket", socket.display()))
                .hint("keys are not read here: give the key to an agent with ssh-add, and forward that"));
        }
        agents.insert(name.to_string(), socket);
    }
    Ok(agents)
}

/// What `--build-context` names.
#[derive(Default)]
pub struct Contexts {
    pub named: BTreeMap<String, NamedContext>,
    pub folders: BTreeMap<String, Arc<Context>>,
    /// Layouts, by the names that their images are to have in the engine.
    pub layouts: Vec<(String, Place)>,
}

impl Contexts {
    /// Reads `NAME=WHERE`; `run` is part of the names that images of layouts get.
    ///
    /// # Errors
    /// It is of a kind that is not known, or a folder is not there.
    pub fn read(given: &[String], run: &str) -> Result<Contexts> {
        let mut contexts = Contexts::default();
        for text in given {
            let wrong = |what: &str| Error::new(Class::Usage, format!("--build-context {text}: {what}"));
            let hint = "write NAME=DIR, NAME=docker-image://IMAGE or NAME=oci-layout://DIR:TAG";
            let Some((name, place)) = text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty()) else {
                return Err(wrong("it names no context").hint(hint));
            };
            let name = familiar(name).to_string();
            let context = if let Some(image) = place.strip_prefix("docker-image://") {
                NamedContext::Image(image.to_string())
            } else if let Some(layout) = place.strip_prefix("oci-layout://") {
                if layout.contains("@sha256:") {
                    return Err(wrong("an image of a layout is named by its tag here, not by a digest").hint("write oci-layout://DIR:TAG"));
                }
                let (folder, tag) = match layout.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
                    Some((folder, tag)) => (folder, Some(tag.to_string())),
                    None => (layout, None),
                };
                let image = format!("{run}-context-{}", contexts.layouts.len());
                contexts.layouts.push((image.clone(), Place::Layout(PathBuf::from(folder), tag)));
                NamedContext::Image(image)
            } else if place.contains("://") || place.starts_with("git@") {
                return Err(wrong("it is fetched from elsewhere, which is not supported").hint(hint));
            } else {
                let context =
                    Context::open(Path::new(place), None).map_err(|error| wrong("it cannot be read").because(error).hint(hint))?;
                contexts.folders.insert(name.clone(), Arc::new(context));
                NamedContext::Folder
            };
            if contexts.named.insert(name, context).is_some() {
                return Err(wrong("this name is given twice").hint("keep one of them"));
            }
        }
        Ok(contexts)
    }

    /// Puts the images of layouts into the engine.
    ///
    /// # Errors
    /// A layout has no such image, or the engine takes none.
    pub async fn load(layouts: &[(String, Place)], engine: &Engine) -> Result<()> {
        for (name, place) in layouts {
            let opened = place.open(None).await?;
            let with_kept = engine.kind() != Kind::Embedded;
            let written = engine.write(Some(name.clone()), with_kept, move |write| {
                let config = opened.store.config_json.clone();
                let config = move |_| Ok(config.clone());
                let kept = opened.store.layers();
                write(&mut NewImage {
                    store: &opened.store,
                    kept,
                    delta: None,
                    compression: Compression::None,
                    name: None,
                    config: &config,
                })
            });
            written.await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_standard_input_is_a_dockerfile_or_a_tar_of_a_context() {
        let (text, context) = from_stdin(&b"FROM scratch\n"[..], None).expect("a Dockerfile");
        assert_eq!(text, b"FROM scratch\n");
        assert!(context.find("/x").expect_err("nothing is there").what().contains("this build has no context"));
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in [("Dockerfile", "FROM a"), ("sub/other", "FROM b"), ("x", "")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).expect("into memory");
        }
        let tar = tar.into_inner().expect("into memory");
        let (text, context) = from_stdin(&tar[..], None).expect("a context");
        assert_eq!((text, context.find("/x").expect("it is there").len()), (b"FROM a".to_vec(), 1));
        assert_eq!(from_stdin(&tar[..], Some(Path::new("sub/other"))).expect("a context").0, b"FROM b");
        assert!(from_stdin(&tar[..], Some(Path::new("none"))).is_err());
        assert!(from_stdin(&b"FROM scratch\n"[..], Some(Path::new("x"))).is_err());
        // Of several the last counts, and a link is not followed.
        let mut second = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(6);
        second.append_data(&mut header, "Dockerfile", &b"FROM a"[..]).expect("into memory");
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        second.append_link(&mut header, "Dockerfile", "/etc/shadow").expect("into memory");
        let second = second.into_inner().expect("into memory");
        let refused = from_stdin(&second[..], None).expect_err("a link");
        assert_eq!(refused.to_string(), "Dockerfile in the tar on standard input is no file");
        assert!(refused.hint_text().is_some_and(|hint| hint.contains("pack the file itself")));
    }

    #[test]
    fn contexts_are_folders_images_and_layouts() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display().to_string();
        let read = |text: &str| Contexts::read(&[text.to_string()], "run");
        let contexts = read(&format!("docker.io/library/src:latest={at}")).expect("a folder");
        assert_eq!(contexts.named["src"], NamedContext::Folder);
        assert_eq!(read("base=docker-image://debian:12").expect("an image").named["base"], NamedContext::Image("debian:12".into()));
        let layouts = read("base=oci-layout:///a/b:1").expect("a layout").layouts;
        assert_eq!(layouts, [("run-context-0".to_string(), Place::Layout("/a/b".into(), Some("1".into())))]);
        for wrong in ["x", "=x", "x=", "x=https://example.org/x.git", "x=/no/such/folder", "x=oci-layout:///a@sha256:0"] {
            assert!(read(wrong).is_err_and(|error| error.hint_text().is_some()), "{wrong}");
        }
    }
}
