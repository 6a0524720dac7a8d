//! Sixteen images, each with something that rewriting gets wrong, flattened by us and by `docker export`: one tree.
//! Then loaded and run by Docker, by Podman, and from a registry, with the same digests. (Six of them; with `make test-all`
//! all, and a sparse file of 3 GiB.)

use crate::engines::Other;
use crate::registry::Registry;
use crate::support::{Project, Used, docker, exported_tree, image_name, long, run, tool, twostage, uses};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What each is about, and the steps that make it above a base of one program. `size` is that of the sparse file.
fn images(size: &str) -> Vec<(&'static str, String)> {
    let steps: [(&str, &str); 15] = [
        ("deletions", "RUN mkdir /a && echo 1 > /a/x && echo 2 > /a/y\nRUN rm /a/x /etc/group\nRUN rm -r /a && echo 3 > /b\n"),
        (
            "replaced-types",
            "RUN echo f > /t && mkdir /d && echo x > /d/x && ln -s /etc /l\n\
             RUN rm /t && mkdir /t && echo in > /t/in && rm -r /d && ln -s t /d && rm /l && echo file > /l\n",
        ),
        ("opaque", "RUN mkdir -p /o/p && touch /o/p/old /o/old\nRUN rm -rf /o && mkdir -p /o/p && touch /o/p/new\n"),
        (
            "hard-links",
            "RUN echo one > /h1 && ln /h1 /h2\nRUN ln /h2 /h3 && rm /h1 && ln /bin/busybox /bin/again\nRUN echo two >> /h3 && ln /h2 /h1\n",
        ),
        ("rights", "RUN cp /bin/busybox /s && chmod 4755 /s && chmod 2755 /bin && mkdir -m 1777 /sticky && touch /none && chmod 0 /none\n"),
        ("owners", "RUN chown -R 1234:4321 /etc && touch /far && chown 100000:4000000000 /far\nRUN chown 0:7 /etc/passwd\n"),
        ("capabilities", "ADD attributes.tar /\nRUN mv /capable /moved && cp /bin/busybox /plain\n"),
        (
            "names",
            "RUN touch /\u{fc}n\u{ef}c\u{f6}d\u{e9} \"/$(printf 'new\\nline')\" \"/$(printf 'odd\\377')\" '/two words' /-dash '/*' /$(printf 'n%.0s' $(seq 255))\n\
             RUN rm '/two words' \"/$(printf 'new\\nline')\" && touch '/\\n' '/.wh' /.whx\n",
        ),
        ("empty", "RUN touch /e1 /e2 && mkdir -p /d1/d2\nRUN true\nRUN rm /e1 && rmdir /d1/d2\n"),
        ("sparse", "RUN truncate -s SIZE /sparse && echo end >> /sparse\nRUN mv /sparse /moved\n"),
        ("devices", "RUN mkfifo /pipe && mknod /null c 1 3 && mknod /loop b 7 0\nRUN rm /pipe && echo now a file > /pipe\n"),
        (
            "deep",
            "RUN d=/ && for n in $(seq 100); do d=$d/$n; mkdir $d; done && echo x > $d/x\nRUN rm -r /1/2/3/4/5/6 && echo y > /1/2/3/4/5/6\n",
        ),
        (
            "many",
            "RUN mkdir /m && cd /m && for n in $(seq 5000); do echo $n > $n; done\nRUN cd /m && for n in $(seq 1 2 5000); do rm $n; done && chmod 700 /m\n",
        ),
        ("metadata", "RUN touch /x\nENV A=b C=\"d e\"\nLABEL l=m\nWORKDIR /work\nEXPOSE 80/udp\nSTOPSIGNAL SIGUSR1\n"),
        (
            "links",
            "RUN ln -s usr/share /s && mkdir -p /usr/share && echo x > /s/x && ln -s loop /loop && ln -s /nowhere /dangling\nRUN rm /s && mkdir /s && echo y > /s/x\n",
        ),
    ];
    steps.into_iter().map(|(name, steps)| (name, steps.replace("SIZE", size))).collect()
}

/// One program of Debian's, which has all that the steps need.
fn busybox(folder: &Path, name: &str) {
    let script = "set -e; apt-get -o APT::Sandbox::User=root download --quiet busybox-static > /dev/null; dpkg-deb -x busybox-static_*.deb got
        mkdir -p root/bin root/etc root/tmp; cp got/bin/busybox root/bin; for name in $(got/bin/busybox --list); do
        [ $name = busybox ] || ln -s busybox root/bin/$name; done; printf 'root:x:0:0::/:/bin/sh\\n' > root/etc/passwd; printf 'root:x:0:\\n' > root/etc/group
        tar -cf base.tar --owner=0 --group=0 --numeric-owner -C root .";
    run(Command::new("sh").args(["-c", script]).current_dir(folder)).ok();
    docker(&["import", "--change", "CMD [\"cat\", \"/etc/check\"]", &folder.join("base.tar").to_string_lossy(), name]).ok();
    // A capability and an attribute of users, as no program of the base can set them.
    let attributes = "import tarfile,io;t=tarfile.open('attributes.tar','w',format=tarfile.PAX_FORMAT);m=tarfile.TarInfo('capable');m.size=2;m.mode=0o755
m.pax_headers={'SCHILY.xattr.security.capability':bytes.fromhex('0100000200200000000000000000000000000000').decode('utf-8','surrogateescape'),'SCHILY.xattr.user.note':'kept'}
t.addfile(m,io.BytesIO(b'x\\n'));t.close()";
    run(Command::new("python3").args(["-c", attributes]).current_dir(folder)).ok();
}

fn inspect(image: &str, format: &str) -> String {
    docker(&["inspect", "--format", format, image]).ok().out.trim().to_string()
}

#[test]
fn images_flat_are_the_trees_that_docker_exports_everywhere_with_the_same_digests() {
    uses(Used::Engine);
    // (The last of them is of packages.)
    let (size, every) = if long() { ("3G", 1) } else { ("20M", 3) };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let base = image_name("busybox");
    busybox(folder.path(), &base);
    let debian = Project::built_hello("sixteen");
    let registry = Registry::start(None);
    let podman = Other::podman();

    let mut all: Vec<(String, String, String)> =
        images(size).into_iter().map(|(name, steps)| (name.to_string(), base.clone(), steps)).collect();
    let packages = "RUN apt-get update && apt-get install -y --no-install-recommends hello libcap2-bin && setcap cap_net_raw=ep /usr/bin/hello\n\
        RUN apt-get purge -y libcap2-bin && apt-get autoremove -y && rm -rf /var/lib/apt/lists/*\nCMD [\"cat\", \"/etc/check\"]\n";
    all.push(("packages".into(), debian.base(), packages.into()));
    assert_eq!(all.len(), 16);
    for (name, base, steps) in all.into_iter().step_by(every) {
        let image = image_name(&format!("real-{name}"));
        let flat = format!("{image}_flatten:latest");
        fs::write(folder.path().join("Dockerfile"), format!("FROM {base}\n{steps}RUN echo this is {name} > /etc/check\n")).expect("a file");
        fs::write(folder.path().join(".dockerignore"), "*\n!attributes.tar\n!Dockerfile\n").expect("a file");
        docker(&["build", "--network=host", "--tag", &image, &folder.path().to_string_lossy()]).ok();
        run(twostage().args(["flatten", &image])).ok();
        let flat_id = inspect(&flat, "{{.Id}}");
        assert_eq!(
            inspect(&flat, "{{len .RootFS.Layers}}"),
            (inspect(&base, "{{len .RootFS.Layers}}").parse::<usize>().expect("a number") + 1).to_string()
        );
        let greeting = format!("this is {name}\n");

        // Into a registry and out of it, byte for byte.
        let remote = format!("{}/real/{name}:flat", registry.address);
        let said = run(twostage().args(["--json", "flatten", &image, "--onto", &base, "--to", &format!("docker://{remote}")])).ok().out;
        let said: serde_json::Value = said.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().expect("a result");
        let manifest = said["manifest"].as_str().expect("a manifest's digest").to_string();
        docker(&["image", "rm", "--force", &flat]).ok();
        docker(&["pull", "--quiet", &remote]).ok();
        assert_eq!(exported_tree(&remote), exported_tree(&image), "{name}");
        assert!(inspect(&remote, "{{.RepoDigests}}").contains(&manifest), "{name}: the registry has it as {manifest}");
        let id = format!("sha256:{}", said["id"].as_str().expect("an id"));
        assert_eq!([inspect(&remote, "{{.Id}}"), flat_id], [id.clone(), id], "{name}: one image, in the engine and from the registry");
        assert_eq!(docker(&["run", "--rm", "--network=none", &remote]).ok().out, greeting, "{name} from the registry");

        // And from there into Podman.
        let host = ["--engine-host", &podman.service.line];
        run(twostage()
            .args(["flatten", "--all", &format!("docker://{remote}"), "--to", &format!("containers-storage:{image}:flat")])
            .args(host))
        .ok();
        let in_podman = |arguments: &[&str]| tool("podman", &[&["--remote", "--url", &podman.service.line][..], arguments].concat());
        assert_eq!(in_podman(&["run", "--rm", "--network=none", &format!("{image}:flat")]).ok().out, greeting, "{name} in Podman");
        in_podman(&["image", "rm", "--force", &format!("{image}:flat")]).ok();
        docker(&["image", "rm", "--force", &remote, &image]).ok();
    }
    docker(&["image", "rm", "--force", &base]).ok();
}
