//! `twostage init`: a commented project file and a Makefile.

use crate::cli::Init;
use crate::output::Output;
use crate::session::{PROJECT_FILE, write_atomically};
use std::path::Path;
use twostage_beneath::Folder;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// Bytes of a `.gitignore`, at most.
const MAX_IGNORED: u64 = 1 << 20;

pub fn run(arguments: &Init, project: &Path, output: &Output) -> Result<()> {
    let folder = arguments.folder.as_deref().unwrap_or(project);
    std::fs::create_dir_all(folder).or_fail(Class::System, || format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize().or_fail(Class::System, || format!("cannot find {}", folder.display()))?;
    let name: String = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    let name = if name.len() < 2 { "project" } else { name };
    let files = [
        (PROJECT_FILE, include_str!("init/twostage.toml").replace("PROJECT", name)),
        ("Makefile", include_str!("init/Makefile").to_string()),
    ];
    if let Some((file, _)) = files.iter().find(|(file, _)| folder.join(file).exists()) {
        return Err(Error::new(Class::Usage, format!("{} is there already", folder.join(file).display()))
            .hint("choose an empty folder, or edit what is there"));
    }
    // A folder under version control has one already, as a rule. (It is read before anything is written: a link of that
    // name would bring a file of somebody else's into the project.)
    let whole = Folder::open(&folder)?;
    let ignored = match whole.kind(".gitignore")? {
        Some(_) => whole.read_text(".gitignore", MAX_IGNORED)?,
        None => String::new(),
    };
    for (file, text) in &files {
        write_atomically(&folder.join(file), text.as_bytes())?;
    }
    if !ignored.lines().any(|line| line.trim_matches('/') == ".twostage") {
        let end = if ignored.is_empty() || ignored.ends_with('\n') { "" } else { "\n" };
        write_atomically(&folder.join(".gitignore"), format!("{ignored}{end}.twostage/\n").as_bytes())?;
    }
    output.result(
        &format!("wrote {PROJECT_FILE} and Makefile in {}; edit the first, then run `make repo && make runtime`", folder.display()),
        &serde_json::json!({ "event": "initialised", "folder": folder }),
    );
    Ok(())
}
