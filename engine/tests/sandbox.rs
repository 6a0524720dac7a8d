//! The sandbox with real namespaces, real layers and real programs: busybox, from the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use twostage_engine::Network;
use twostage_engine::sandbox::{Job, Mount, Root, Sandbox, Upper};

/// A folder that goes away with all its layers.
struct Place {
    dir: PathBuf,
    sandbox: Sandbox,
}

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("twostage-sandbox-{}-{name}", std::process::id()));
        fs::create_dir(&dir).expect("a new folder");
        let sandbox = Sandbox::new().expect("ids").with_program(env!("CARGO_BIN_EXE_twostage-sandbox").into());
        Place { dir, sandbox }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A root of one layer with busybox in it, and a layer to write to.
    fn root(&self) -> Root {
        let base = self.path("base");
        self.sandbox.unpack(&busybox()[..], &base).expect("busybox unpacks");
        Root { lowers: vec![base], init: None, upper: Some(self.upper("upper")) }
    }

    fn upper(&self, name: &str) -> Upper {
        Upper { dir: self.path(name), work: self.path(&format!("{name}-work")) }
    }

    fn run(&self, root: &Root, script: &str) -> (i64, Vec<String>) {
        self.run_job(Job { cmd: &["/bin/sh", "-c", script].map(String::from), ..job(root) })
    }

    fn run_job(&self, job: Job<'_>) -> (i64, Vec<String>) {
        let mut lines = Vec::new();
        let code = runtime().block_on(self.sandbox.run(job, &mut |line: &str| lines.push(line.to_string())));
        (code.expect("it runs"), lines)
    }

    /// What the command writes, which must end well.
    fn says(&self, root: &Root, script: &str) -> Vec<String> {
        let (code, lines) = self.run(root, script);
        assert_eq!(code, 0, "{script}: {lines:?}");
        lines
    }

    fn packed(&self, root: &Root) -> Vec<u8> {
        let mut tar = Vec::new();
        self.sandbox.pack(root).expect("packing starts").read_to_end(&mut tar).expect("packing ends");
        tar
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let removed = self.sandbox.remove(&entry.path());
            if !std::thread::panicking() {
                removed.expect("it can be removed");
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn job(root: &Root) -> Job<'_> {
    Job {
        root,
        cmd: &[],
        env: &[],
        user: "",
        workdir: "",
        hostname: Some("box"),
        network: Network::None,
        script: None,
        mounts: &[],
        timeout: Some(Duration::from_secs(60)),
    }
}

/// Entries of a tar, for tests that make one.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, path: &str, kind: tar::EntryType, mode: u32, owner: u64, link: &str, data: &[u8]) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).expect("memory takes all");
        self
    }

    fn file(self, path: &str, mode: u32, data: &[u8]) -> Tar {
        self.add(path, tar::EntryType::Regular, mode, 0, "", data)
    }

    fn dir(self, path: &str, mode: u32) -> Tar {
        self.add(path, tar::EntryType::Directory, mode, 0, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Tar {
        self.add(path, tar::EntryType::Symlink, 0o777, 0, target, b"")
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes all")
    }
}

/// A root file system of a static busybox.
fn busybox() -> Vec<u8> {
    let program = fs::read("/bin/busybox").expect("`apt-get install busybox-static` gives /bin/busybox");
    let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    let mut tar = Tar::new();
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700), ("home/", 0o755)] {
        tar = tar.dir(folder, mode);
    }
    tar = tar
        .file("bin/busybox", 0o755, &program)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nusers:x:100:\nstaff:x:50:ann\n")
        .add("home/ann/", tar::EntryType::Directory, 0o755, 1000, "", b"");
    for name in String::from_utf8(list.stdout).expect("names").lines().filter(|name| *name != "busybox") {
        tar = tar.link(&format!("bin/{name}"), "busybox");
    }
    tar.end()
}

/// One line for each entry: kind, mode, owner, path, and what it leads to or holds.
fn dump(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let mut lines = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let header = entry.header().clone();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", String::from_utf8_lossy(&link))).unwrap_or_default();
        let mut data = String::new();
        entry.read_to_string(&mut data).unwrap_or_default();
        let data = if data.is_empty() || data.len() > 40 { String::new() } else { format!(" {data:?}") };
        let kind = char::from(header.entry_type().as_byte());
        let (uid, gid) = (header.uid().expect("uid"), header.gid().expect("gid"));
        lines.push(format!("{kind} {:04o} {uid}:{gid} {path}{link}{data}", header.mode().expect("mode")));
    }
    lines
}

#[test]
fn a_command_ends_with_its_status_as_in_a_shell() {
    let place = Place::new("status");
    let root = place.root();
    assert_eq!(place.run(&root, "echo out; echo err >&2; exit 3").0, 3);
    assert_eq!(place.run(&root, "kill -9 $$").0, 137);
    let cmd = |cmd: &[&str]| cmd.iter().map(ToString::to_string).collect::<Vec<_>>();
    let run = |cmd: &[String]| place.run_job(Job { cmd, ..job(&root) });
    assert_eq!(run(&cmd(&["nothing"])), (127, vec![r#"exec: "nothing": executable file not found in $PATH"#.to_string()]));
    assert_eq!(run(&cmd(&["/nothing"])), (127, vec![r#"exec: "/nothing": no such file or directory"#.to_string()]));
    assert_eq!(run(&cmd(&["/etc/passwd"])), (126, vec![r#"exec: "/etc/passwd": permission denied"#.to_string()]));
    assert_eq!(run(&cmd(&["echo", "found in PATH"])), (0, vec!["found in PATH".to_string()]));
    let (code, lines) = place.run_job(Job { workdir: "/nowhere", cmd: &cmd(&["true"]), ..job(&root) });
    assert_eq!(code, 127);
    assert_eq!(lines, [r#"chdir to cwd ("/nowhere") failed: no such file or directory"#]);
}
