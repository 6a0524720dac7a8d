//! What a person types, and what they read.

use crate::support::{run, twostage};

#[test]
fn init_writes_a_project_that_reads_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("My Project");
    run(twostage().arg("init").arg(&path)).ok();
    let text = std::fs::read_to_string(path.join("twostage.toml")).expect("a project file");
    assert!(text.contains("name = \"my-project\"") && text.contains("[runtime.my-project]"), "{text}");
    assert!(std::fs::read_to_string(path.join("Makefile")).expect("a Makefile").contains("$(TWOSTAGE) runtime"));
    run(twostage().arg("init").arg(&path)).fails_with(2).says("is there already").says("hint:");
}

#[test]
fn a_mistake_in_the_project_file_names_line_and_edit() {
    let folder = tempfile::tempdir().expect("a folder");
    let project =
        "[project]\nname = \"demo\"\n[base]\nbootstrap = \"debian:bookworm\"\n[[component]]\nname = \"greet\"\nsource = \"gret\"\n";
    std::fs::create_dir(folder.path().join("greet")).expect("a folder");
    std::fs::write(folder.path().join("twostage.toml"), project).expect("a project file");
    run(twostage().arg("--project").arg(folder.path()).arg("repo"))
        .fails_with(3)
        .says("error: twostage.toml:7: there is no folder `gret`")
        .says("hint: write `greet`");
    std::fs::write(folder.path().join("twostage.toml"), project.replace("source", "sorce")).expect("a project file");
    let json = run(twostage().arg("--json").arg("--project").arg(folder.path()).arg("repo")).fails_with(3).out;
    let error: serde_json::Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(error["class"], "project");
    assert_eq!(error["message"], "twostage.toml:7: unknown key `sorce`");
    assert_eq!(error["hint"], "write `source`");
}

#[test]
fn an_engine_that_does_not_answer_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    run(twostage().arg("init").arg(folder.path().join("demo"))).ok();
    run(twostage().arg("--project").arg(folder.path().join("demo")).args(["repo", "--engine-host", "unix:///nonexistent/docker.sock"]))
        .fails_with(6)
        .says("/nonexistent/docker.sock")
        .says("hint:");
}

#[test]
fn completions_are_written_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(twostage().args(["completions", shell])).ok().out.contains("runtime"), "{shell}");
    }
}
