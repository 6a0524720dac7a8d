//! Images looked into and rewritten: flatten, diff, plan and the audit's page, on real images.

use crate::support::{Project, Used, docker, exported_tree, run, tool, twostage, uses};
use std::fs;
use std::path::Path;

/// An image built from a base with steps that no tool finds easy.
const STEPS: &str = "RUN mkdir /src && head -c 3000000 /dev/urandom > /src/big && ln /src/big /src/link\n\
    RUN cp /bin/ls /usr/local/bin/l && chmod 4755 /usr/local/bin/l && ln /usr/local/bin/l /usr/local/bin/m && chown -R 7:8 /etc/apt\n\
    RUN touch \"/$(printf 'new\\nline')\" /\u{fc}mlaut \"/$(printf 'odd\\377')\" /empty && mkfifo /pipe && mknod /null c 1 3 && truncate -s 40M /sparse\n\
    RUN rm -rf /src /usr/share/doc && rm /etc/debian_version && mkdir /etc/debian_version && echo x > /etc/debian_version/x && mv /sparse /moved\n\
    RUN rm /usr/local/bin/l && rm -r /usr/share/man && ln -s locale /usr/share/man && mkdir -m 1777 /sticky && touch /sticky/x\n\
    ENV A=b\nCMD [\"m\", \"/sticky\"]\n";

fn build(folder: &Path, name: &str, base: &str, steps: &str) {
    fs::write(folder.join("Dockerfile"), format!("FROM {base}\n{steps}")).expect("a file");
    docker(&["build", "--network=host", "--tag", name, &folder.to_string_lossy()]).ok();
}

fn layers(image: &str) -> Vec<String> {
    let out = docker(&["inspect", "--format", "{{json .RootFS.Layers}}", image]).ok().out;
    serde_json::from_str(&out).expect("docker writes JSON")
}

#[test]
fn a_flat_image_is_the_same_tree_in_one_layer_above_its_parent() {
    uses(Used::Engine);
    let project = Project::built_hello("flat");
    let (base, image) = (project.base(), project.image.clone());
    let folder = project.join("build");
    fs::create_dir(&folder).expect("a folder");
    build(&folder, &image, &base, STEPS);
    let flat = format!("{image}_flatten:latest");

    let said = run(twostage().args(["flatten", &image])).ok();
    assert!(said.out.contains("nearest ancestor with a name") && said.out.contains("/src/big  (deleted later)"), "{}", said.out);
    assert_eq!(exported_tree(&flat), exported_tree(&image));
    assert_eq!(layers(&flat).len(), 2);
    assert_eq!(layers(&flat)[0], layers(&base)[0], "the base's layer stays, and stays shared");
    assert_eq!(docker(&["run", "--rm", "--network=none", &flat]).ok().out, "x\n", "CMD and the setuid copy still work");
    assert_eq!(run(twostage().args(["diff", &image, &flat])).ok().out, "no difference\n");
    let original = docker(&["inspect", "--format", "{{.Id}}", &image]).ok().out;

    // Again is nothing to do; with another name it is the same image.
    assert!(run(twostage().args(["flatten", &image])).ok().out.contains("flat already"));
    let other = format!("{image}-other");
    run(twostage().args(["flatten", &image, "--to", &other, "--onto", &base])).ok();
    let id = |name: &str| docker(&["inspect", "--format", "{{.Id}}", name]).ok().out;
    assert_eq!(id(&other), id(&flat));
    assert_eq!(id(&image), original, "the original is untouched");

    // From an archive, without an engine, into a layout and an archive; skopeo and docker read them.
    let saved = project.join("saved.tar");
    docker(&["save", "--output", &saved.to_string_lossy(), &image]).ok();
    let layout = format!("oci:{}:flat", project.join("layout").display());
    let from = format!("docker-archive:{}", saved.display());
    run(twostage().args(["--json", "flatten", &from, "--to", &layout, "--onto", &base])).ok();
    let inspected = tool("skopeo", &["inspect", "--config", &layout]).ok().out;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("skopeo writes JSON");
    let ids: Vec<String> = serde_json::from_value(inspected["rootfs"]["diff_ids"].clone()).expect("diff_ids");
    assert_eq!(ids, layers(&flat));
    let archive = project.join("all.tar");
    run(twostage().args(["flatten", &from, "--all", "--to", &format!("docker-archive:{}:{image}-all:latest", archive.display())])).ok();
    docker(&["load", "--input", &archive.to_string_lossy()]).ok();
    let all = format!("{image}-all");
    assert_eq!(exported_tree(&all), exported_tree(&image));
    assert_eq!(layers(&all).len(), 1);

    // What cannot be is said.
    let unrelated = format!("{image}-unrelated");
    let context = project.join("unrelated");
    fs::create_dir(&context).expect("a folder");
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /x\n").expect("a file");
    docker(&["build", "--tag", &unrelated, &context.to_string_lossy()]).ok();
    run(twostage().args(["flatten", &image, "--onto", &unrelated])).fails_with(2).says("the image shares no layer with it").says("hint:");
    run(twostage().args(["flatten", "no-such-image"])).fails_with(6).says("the engine has no image no-such-image");

    // The two are one tree: as they are a node has both, flat it has one.
    let plan = run(twostage().args(["--json", "plan", &image, &flat, "--html", &project.join("plan.html").to_string_lossy()])).ok();
    let plan: serde_json::Value = plan.out.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back().expect("a plan");
    let node = |number: usize| plan["choices"][number]["node"].as_u64().expect("bytes");
    assert!(node(0) > node(1), "{plan}");
    assert!(fs::read_to_string(project.join("plan.html")).expect("a page").contains("The split"));
    for name in [&flat, &other, &all, &unrelated] {
        docker(&["image", "rm", "--force", name]).ok();
    }
}
