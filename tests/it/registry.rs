//! Debian's docker-registry: images in and out of it, with and without a login.

use crate::engines::Other;
use crate::support::{Project, Used, docker, exported_tree, run, tool, twostage, uses, wait_until};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A registry on loopback, with its files in a folder of its own. It ends with its value.
pub struct Registry {
    child: Child,
    /// `127.0.0.1:port`
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// With a login, `user` and `password` are asked for.
    pub fn start(login: Option<(&str, &str)>) -> Registry {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        // (Somebody else could take the port in between; then the registry does not start, and says so.)
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let auth = login.map_or(String::new(), |(user, password)| {
            let script = "import crypt,sys; print(sys.argv[1] + ':' + crypt.crypt(sys.argv[2], crypt.mksalt(crypt.METHOD_BLOWFISH)))";
            fs::write(at("htpasswd"), tool("python3", &["-W", "ignore", "-c", script, user, password]).ok().out).expect("a file");
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd"))
        });
        let settings = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
            at("data")
        );
        fs::write(at("config.yml"), settings).expect("a file");
        let log = fs::File::create(at("log")).expect("a file");
        let mut command = Command::new("docker-registry");
        command.args(["serve", &at("config.yml")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|cause| panic!("{cause}: apt-get install docker-registry"));
        wait_until("the registry answers", || TcpStream::connect(&address).is_ok());
        Registry { child, address, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, for somebody whose logins are in `home`.
fn twostage_of(home: &Path) -> Command {
    let mut command = twostage();
    command.env("HOME", home);
    for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_registry_with_a_login_takes_what_docker_and_podman_have_for_it() {
    uses(Used::Engine);
    let project = Project::built_hello("login");
    let registry = Registry::start(Some(("builder", "s3cret-word")));
    let layout = project.join("layout");
    let local = format!("oci:{}:it", layout.display());
    run(twostage().args(["flatten", "--all", &project.base(), "--to", &local])).ok();
    let remote = format!("docker://{}/team/app:1", registry.address);
    let home = project.join("home");
    fs::create_dir_all(home.join(".docker")).expect("a folder");
    fs::create_dir_all(home.join(".config/containers")).expect("a folder");

    // Nobody is let in, and told how to get in.
    let push = || run(twostage_of(&home).args(["flatten", "--all", &local, "--to", &remote]));
    push().fails_with(7).says(&format!("cannot push {}/team/app:1", registry.address)).says("docker login");

    // docker's file, podman's, and a helper of docker's.
    let auth = "YnVpbGRlcjpzM2NyZXQtd29yZA==";
    let entry = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}", registry.address);
    let (docker_file, podman_file) = (home.join(".docker/config.json"), home.join(".config/containers/auth.json"));
    fs::write(&docker_file, &entry).expect("a file");
    push().ok();
    fs::remove_file(&docker_file).expect("it is there");
    fs::write(&podman_file, entry.replace(&registry.address, &format!("{}/team", registry.address))).expect("a file");
    let told = run(twostage_of(&home).args(["--json", "diff", &local, &remote])).ok();
    assert!(told.out.contains("\"same\":true") || told.out.contains("\"files\":[]"), "what was pushed is what was there: {}", told.out);
    fs::remove_file(&podman_file).expect("it is there");
    let helper = home.join("docker-credential-test");
    let script = "#!/bin/sh\nread server\necho \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"builder\\\",\\\"Secret\\\":\\\"s3cret-word\\\"}\"\n";
    fs::write(&helper, script).expect("a file");
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    fs::write(&docker_file, "{\"credsStore\": \"test\"}").expect("a file");
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap_or_default());
    run(twostage_of(&home).env("PATH", path).args(["audit", "--base-layers", "1", &remote])).ok();

    // A wrong password is refused, and neither one is shown.
    fs::write(&docker_file, entry.replace(auth, "YnVpbGRlcjp3cm9uZy1zM2NyZXQ=")).expect("a file");
    let refused = push().fails_with(7);
    assert!(!refused.err.contains("wrong-s3cret") && !refused.err.contains("YnVpbGRlcjp"), "{}", refused.err);
}

/// Our gzip layers are one member, whose mebibytes are packed by all cores and each end on a whole byte.
#[test]
fn docker_podman_and_skopeo_read_a_gzip_layer_that_all_cores_have_packed() {
    uses(Used::Engine);
    let project = Project::built_hello("members");
    let registry = Registry::start(None);
    let podman = Other::podman();
    let image = format!("{}/{}", registry.address, project.image);
    project.write("Dockerfile", &format!("FROM {}\nRUN rm /etc/debian_version && echo Members > /etc/check\n", project.base()));
    project.write(".dockerignore", "*\n");
    docker(&["build", "--network=none", "--tag", &image, &project.path().to_string_lossy()]).ok();
    docker(&["push", "--quiet", &image]).ok();
    let flat = format!("{image}-flat:1");
    run(twostage().args(["flatten", "--all", &format!("docker://{image}"), "--to", &format!("docker://{flat}")])).ok();

    let layout = project.join("layout");
    let insecure = ["copy", "--quiet", "--src-tls-verify=false"];
    let (from, to) = (format!("docker://{flat}"), format!("oci:{}:flat", layout.display()));
    tool("skopeo", &[&insecure[..], &[&from, &to]].concat()).ok();
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("the blobs").flatten();
    let layer = blobs.map(|blob| fs::read(blob.path()).expect("a blob")).max_by_key(Vec::len).expect("a layer");
    // The head that we write: no name, no time, system unknown; and the stored block of no bytes behind each mebibyte.
    let found = |bytes: &[u8]| layer.windows(bytes.len()).filter(|window| *window == bytes).count();
    assert_eq!(found(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]), 1, "the layer that the registry has is one member");
    assert!(found(&[0, 0, 0xff, 0xff]) > 10, "and has many blocks");
    let archive = project.join("flat.tar");
    tool("skopeo", &["copy", "--quiet", &to, &format!("docker-archive:{}", archive.display())]).ok();
    let told = run(twostage().args(["--json", "diff", &format!("docker-archive:{}", archive.display()), &to])).ok();
    assert!(told.out.contains("\"same\":true") || told.out.contains("\"files\":[]"), "as skopeo unpacks it: {}", told.out);

    docker(&["pull", "--quiet", &flat]).ok();
    assert_eq!(exported_tree(&flat), exported_tree(&image));
    let in_podman = |arguments: &[&str]| tool("podman", &[&["--remote", "--url", &podman.service.line][..], arguments].concat());
    in_podman(&["pull", "--quiet", "--tls-verify=false", &flat]).ok();
    assert_eq!(in_podman(&["run", "--rm", "--network=none", &flat, "cat", "/etc/check"]).ok().out, "Members\n");
    in_podman(&["image", "rm", "--force", &flat]).ok();
    docker(&["image", "rm", "--force", &flat, &image]).ok();
}

#[test]
fn what_a_registry_has_not_or_is_not_is_an_error_with_a_reason() {
    uses(Used::Engine);
    let project = Project::built_hello("no-registry");
    let registry = Registry::start(None);
    let of = |name: &str| format!("docker://{}/{name}", registry.address);
    run(twostage().args(["audit", "--base-layers", "0", &of("nothing:1")])).fails_with(7).says("cannot pull").says("nothing:1");
    run(twostage().args(["audit", "--base-layers", "0", "docker://127.0.0.1:1/x"]))
        .fails_with(7)
        .says("cannot")
        .says("is the registry there");
    run(twostage().args(["flatten", &of("x")])).fails_with(2).says("name it with --to");
    run(twostage().args(["audit", "docker://UPPER CASE"])).fails_with(2).says("names no image of a registry");
    // A blob that was changed behind the registry's back.
    let tag = format!("{}/changed:1", registry.address);
    docker(&["tag", &project.base(), &tag]).ok();
    docker(&["push", "--quiet", &tag]).ok();
    docker(&["image", "rm", &tag]).ok();
    let data = registry._folder.path().join("data/docker/registry/v2/blobs/sha256");
    let find = tool("find", &[&data.to_string_lossy(), "-name", "data", "-size", "+1M"]).ok().out;
    let blob = find.lines().next().expect("a layer");
    let mut bytes = fs::read(blob).expect("the layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(blob, bytes).expect("the layer");
    run(twostage().args(["audit", "--base-layers", "1", &of("changed:1")])).fails_with(7).says("cannot pull sha256:");
}
