//! A Dockerfile, every stage of it on a base that has variables, a command and a work folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostage_engine::dockerfile::state::Start;
use twostage_engine::dockerfile::{Base, Dockerfile, ImageConfig, Options, State};
use twostage_model::Result;

const BASE: &[u8] = br#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin","LANG=C"],"Cmd":["sh"],"WorkingDir":"a"},
    "rootfs":{"type":"layers","diff_ids":["sha256:0"]},"history":[{"created_by":"base"}]}"#;

fn build(bytes: &[u8]) -> Result<()> {
    let file = Dockerfile::parse(bytes)?;
    let build_args = [("A".to_owned(), "b".to_owned()), ("HTTP_PROXY".to_owned(), "http://h".to_owned())].into();
    let plan = file.plan(Options { build_args, ..Options::default() })?;
    let mut states: Vec<State> = Vec::new();
    for (index, planned) in plan.stages.iter().enumerate() {
        let start = match &planned.base {
            Base::Scratch => Start::Scratch,
            Base::Image(_) => Start::Image(Box::new(ImageConfig::from_json(BASE)?)),
            Base::Stage(earlier) => Start::Stage(&states[*earlier]),
        };
        let mut state = State::begin(&plan, index, start)?;
        for located in &planned.stage.instructions {
            state.apply(&plan, located)?;
        }
        plan.origins(index)?;
        state.image.to_json()?;
        states.push(state);
    }
    plan.needed(plan.stages.len().saturating_sub(1))?;
    plan.unused_arguments();
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = build(bytes) {
        assert!(error.hint_text().is_some(), "{error} says not what to do");
    }
});
