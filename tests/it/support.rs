//! What the chapters share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What a test has used, for the counts that `make test` prints.
#[derive(Clone, Copy)]
pub enum Used {
    Engine,
    Apt,
}

/// Counts a test that uses the real thing. Call it once a test and kind.
pub fn uses(what: Used) {
    let word = match what {
        Used::Engine => "engine",
        Used::Apt => "apt",
    };
    if let Some(path) = std::env::var_os("TWOSTAGE_TEST_COUNTS") {
        use std::io::Write as _;
        let mut file = fs::File::options().append(true).create(true).open(path).expect("the counts can be written");
        writeln!(file, "{word}").expect("the counts can be written");
    }
}

/// What a command did.
pub struct Done {
    pub status: i32,
    pub out: String,
    pub err: String,
    shown: String,
}

impl Done {
    /// The last line of standard output.
    pub fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// Fails the test, readably, unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert!(self.status == 0, "{} ended with {}\n--- stdout\n{}--- stderr\n{}", self.shown, self.status, self.out, self.err);
        self
    }

    /// Fails the test unless the command failed with this status.
    #[track_caller]
    pub fn fails_with(self, status: i32) -> Done {
        assert!(
            self.status == status,
            "{} ended with {}, not {status}\n--- stdout\n{}--- stderr\n{}",
            self.shown,
            self.status,
            self.out,
            self.err
        );
        self
    }

    /// Fails the test unless standard error holds this.
    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        assert!(self.err.contains(text), "{} does not say {text:?}\n--- stderr\n{}", self.shown, self.err);
        self
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Done {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|cause| panic!("cannot run {shown}: {cause}"));
    Done {
        status: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
        shown,
    }
}

/// Runs a tool with arguments.
pub fn tool(program: &str, arguments: &[&str]) -> Done {
    run(Command::new(program).args(arguments))
}

/// The docker client that is installed with the engine.
pub fn docker(arguments: &[&str]) -> Done {
    tool("docker", arguments)
}

/// This repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The command under test.
pub fn twostage() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twostage"));
    command.env("NO_COLOR", "1").env_remove("SOURCE_DATE_EPOCH");
    command
}

/// A project in a folder of its own. Its images are removed when it goes.
pub struct Project {
    folder: tempfile::TempDir,
    /// The name of its image, different in every test, because an engine has one list of names.
    pub image: String,
}

impl Project {
    /// A copy of `examples/hello`, nothing built.
    pub fn hello(test: &str) -> Project {
        let folder = tempfile::Builder::new().prefix(test).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let image = format!("twostage-test-{test}");
        tool("cp", &["-a", &format!("{}/examples/hello/.", root().display()), &folder.path().to_string_lossy()]).ok();
        let _ = fs::remove_dir_all(folder.path().join(".twostage"));
        let _ = fs::remove_file(folder.path().join("twostage.lock"));
        let project = Project { folder, image };
        let image = project.image.clone();
        project.edit("twostage.toml", |text| text.replace("[runtime.hello]", &format!("[runtime.{image}]")));
        project
    }

    /// A copy of `examples/hello` with everything built already, taken over from a build that all
    /// tests share. (Taking it over is what `export` and `import` are for.)
    pub fn built_hello(test: &str) -> Project {
        let shared = shared_build();
        let project = Project::hello(test);
        let lock = fs::read_to_string(shared.join("twostage.lock")).expect("the shared lock");
        project.write("twostage.lock", &lock.replace("runtime:twostage-test-shared", &format!("runtime:{}", project.image)));
        project.run(&["import", &shared.join("export.tar").to_string_lossy()]).ok();
        project.run(&["repo"]).ok();
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).expect("the project can be written");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_else(|cause| panic!("cannot read {name}: {cause}"))
    }

    pub fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        self.write(name, &change(self.read(name)));
    }

    /// The command, for this project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = twostage();
        command.arg("--project").arg(self.path()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    /// The digests of the image's layers.
    pub fn diff_ids(&self) -> Vec<String> {
        let out = docker(&["inspect", "--format", "{{json .RootFS.Layers}}", &self.image]).ok().out;
        serde_json::from_str(&out).expect("docker writes JSON")
    }

    /// What each component's last line said in a run of `repo`: built, unchanged, same.
    pub fn outcomes(done: &Done) -> BTreeMap<String, String> {
        done.out
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|event| event["event"] == "finished")
            .filter_map(|event| Some((event["subject"].as_str()?.to_string(), event["outcome"].as_str()?.to_string())))
            .collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", &self.image]).output();
    }
}

/// `examples/hello`, built once for all tests, with an export beside it.
fn shared_build() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let project = Project::hello("shared");
        project.run(&["repo"]).ok();
        project.run(&["export", &project.join("export.tar").to_string_lossy()]).ok();
        let path = project.path().to_path_buf();
        std::mem::forget(project);
        path
    })
}
