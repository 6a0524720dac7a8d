//! What Dockerfile instructions change in an image's configuration: `docker import --change`, `docker commit --change`.

use crate::dockerfile::config::{DEFAULT_PATH, ImageConfig};
use crate::dockerfile::state::Start;
use crate::dockerfile::{Dockerfile, Options, State, Step};
use twostage_model::{Class, Error, Result};

/// Does to a configuration what the instructions say. History and layers stay as they are.
pub(super) fn apply(config: &ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    let mut changed = config.clone();
    if changes.is_empty() {
        return Ok(changed);
    }
    let wrong = || {
        Error::new(Class::Engine, format!("{} cannot be changed in an image", changes.join("; ")))
            .hint("only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR can be")
    };
    let text = format!("FROM scratch\n{}\n", changes.join("\n"));
    let file = Dockerfile::parse(text.as_bytes()).map_err(|cause| wrong().because(cause))?;
    let plan = file.plan(Options::default()).map_err(|cause| wrong().because(cause))?;
    let [stage] = &plan.stages[..] else { return Err(wrong()) };
    let mut state = State::begin(&plan, 0, Start::Image(Box::new(config.clone())))?;
    for located in &stage.stage.instructions {
        match state.apply(&plan, located).map_err(|cause| wrong().because(cause))? {
            Step::Configuration | Step::Workdir { .. } => {}
            Step::Run(_) | Step::Copy(_) => return Err(wrong()),
        }
    }
    changed.config = state.image.config;
    // A build gives an image the usual path, where it has none; here nobody asked for it.
    let usual = format!("PATH={DEFAULT_PATH}");
    if !config.config.env.iter().any(|entry| entry.starts_with("PATH=")) && !changes.iter().any(|change| change.contains("PATH")) {
        changed.config.env.retain(|entry| *entry != usual);
    }
    changed.config.args_escaped = config.config.args_escaped;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration_and_nothing_else_is_taken() {
        let changes = |list: &[&str]| list.iter().map(|change| change.to_string()).collect::<Vec<_>>();
        let list = changes(&[r#"CMD ["/bin/sh"]"#, "ENV A=\"b c\" D=e", "USER 1000", "LABEL x=y", "WORKDIR /work"]);
        let changed = apply(&ImageConfig::default(), &list).expect("changed").config;
        assert_eq!((changed.cmd, changed.env), (changes(&["/bin/sh"]), changes(&["A=b c", "D=e"])));
        assert_eq!((changed.user.as_str(), changed.working_dir.as_str(), changed.labels["x"].as_str()), ("1000", "/work", "y"));
        for wrong in ["RUN true", "COPY a b", "FROM scratch", "NONSENSE"] {
            assert!(apply(&ImageConfig::default(), &changes(&[wrong])).is_err(), "{wrong}");
        }
    }
}
