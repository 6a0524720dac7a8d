//! All that a Dockerfile asks for, known and checked before anything is done.

use super::pattern::Select;
use crate::dockerfile::state::Start;
use crate::dockerfile::{At, Base, Located, Mount, Origin, Plan, Platform, RunNetwork, State, Step};
use crate::{Engine, Kind, Network};
use twostage_model::{Class, Error, Result, Sha256, Sink};

/// A stage whose steps are known.
pub struct Ready<'f> {
    /// Which stage of the file.
    pub index: usize,
    /// Its FROM.
    pub at: &'f At,
    /// What it starts from.
    pub base: Base,
    /// The image below all stages that it starts from.
    pub root: Root,
    /// What its instructions ask for, in order.
    pub steps: Vec<(&'f Located, Step)>,
    /// Its image, without the base's history.
    pub state: State,
}

impl Ready<'_> {
    /// Whether it starts from a stage, or one of its RUNs mounts files of that.
    pub(super) fn starts_from(&self, stage: usize) -> bool {
        let wanted = Origin::Stage(stage);
        let mounts = |step: &Step| matches!(step, Step::Run(_)) && origins(step).contains(&&wanted);
        matches!(self.base, Base::Stage(base) if base == stage) || self.steps.iter().any(|(_, step)| mounts(step))
    }
}

/// The image that a stage starts from in the end.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its id; none for `FROM scratch`.
    pub image: Option<String>,
    /// Its layers, lowest first.
    pub layers: Vec<Sha256>,
    /// How many steps its history has.
    pub history: usize,
    /// It has volumes: what a container writes into them would be in no layer.
    pub volumes: bool,
}

/// Goes through the stages that `target` needs, for a build that may reach `network`. Images that are missing are pulled.
///
/// # Errors
/// Something is wrong in the file, or it asks for what is not done here; with line, instruction and the way out.
pub async fn ready<'f>(engine: &Engine, plan: &'f Plan<'f>, target: usize, network: Network, events: &Sink) -> Result<Vec<Ready<'f>>> {
    let check = |at: &At, step: &Step| {
        if engine.kind() != Kind::Embedded {
            check_daemon(at, step)?;
        }
        check(at, step, network)
    };
    prepare(engine, plan, target, events, &check).await
}

/// [`ready`]; `check` refuses what is not done.
pub(super) async fn prepare<'f>(
    engine: &Engine,
    plan: &'f Plan<'f>,
    target: usize,
    events: &Sink,
    check: &(dyn Fn(&At, &Step) -> Result<()> + Sync),
) -> Result<Vec<Ready<'f>>> {
    let mut stages: Vec<Ready<'f>> = Vec::new();
    for index in plan.needed(target)? {
        let Some(planned) = plan.stages.get(index) else { continue };
        let at = &planned.stage.at;
        if planned.platform != plan.options.target {
            let hint = format!("leave --platform away, or name an engine of {} with --engine-host", planned.platform);
            return Err(at.error(format!("it is for {}, and the engine runs {}", planned.platform, plan.options.target), hint));
        }
        let (mut state, root) = match &planned.base {
            Base::Scratch => {
                let root = Root { image: None, layers: Vec::new(), history: 0, volumes: false };
                (State::begin(plan, index, Start::Scratch)?, root)
            }
            Base::Stage(base) => {
                let base =
                    stages.iter().find(|stage| stage.index == *base).ok_or_else(|| at.error("its stage is missing", "name another"))?;
                (State::begin(plan, index, Start::Stage(&base.state))?, base.root.clone())
            }
            Base::Image(name) => {
                let info = image(engine, at, name, events).await?;
                let config = engine.config(&info.id).await.map_err(|error| super::named(at, error))?;
                let (config, history) = config.ok_or_else(|| at.error(format!("{name} was removed meanwhile"), "try again"))?;
                if config.architecture != plan.options.target.architecture {
                    events.note(
                        name,
                        format!("Dockerfile {at}: it is for {}, and the engine runs {}", config.architecture, plan.options.target),
                    );
                }
                let volumes = !config.config.volumes.is_empty();
                let root = Root { image: Some(info.id), layers: info.diff_ids, history, volumes };
                (State::begin(plan, index, Start::Image(Box::new(config)))?, root)
            }
        };
        let mut steps = Vec::new();
        for located in planned.instructions() {
            let step = state.apply(plan, located)?;
            check(&located.at, &step)?;
            for origin in origins(&step) {
                if let Origin::Image(name) = origin {
                    image(engine, &located.at, name, events).await?;
                }
            }
            steps.push((located, step));
        }
        stages.push(Ready { index, at, base: planned.base.clone(), root, steps, state });
    }
    Ok(stages)
}

/// Where a step takes files from.
pub(super) fn origins(step: &Step) -> Vec<&Origin> {
    match step {
        Step::Copy(copy) => vec![&copy.origin],
        Step::Run(run) => {
            fn origin(mount: &Mount) -> Option<&Origin> {
                match mount {
                    Mount::Bind { origin, .. } | Mount::Cache { origin, .. } => Some(origin),
                    Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
                }
            }
            run.mounts.iter().filter_map(origin).collect()
        }
        Step::Configuration | Step::Workdir { .. } => Vec::new(),
    }
}

/// Refuses what is not done in one pass, where Docker or Podman has the container.
fn check_daemon(at: &At, step: &Step) -> Result<()> {
    match step {
        Step::Run(run) if !run.mounts.is_empty() => Err(at.error(
            "--mount is not supported by compile on Docker and Podman, which can mount nothing in a container that is there",
            "COPY what it needs before and remove it in a later RUN: it is in no layer then; or use --engine embedded",
        )),
        Step::Run(run) if run.network != RunNetwork::Default => Err(at.error(
            "--network of one RUN is not supported by compile on Docker and Podman",
            "leave it away, `twostage compile --network` is for all of them; or use --engine embedded",
        )),
        _ => Ok(()),
    }
}

/// Refuses what no engine of ours does.
pub(super) fn check(at: &At, step: &Step, network: Network) -> Result<()> {
    match step {
        Step::Run(run) if run.network == RunNetwork::Host && network != Network::Host => {
            Err(at.error("--network=host is more than this build may reach", "leave it away, or build on the host's network"))
        }
        Step::Run(run) => {
            let seeded =
                |mount: &&Mount| matches!(mount, Mount::Cache { origin, source, .. } if *origin != Origin::Scratch || source != "/");
            match run.mounts.iter().find(seeded) {
                Some(_) => Err(at.error("a cache with from= or source= is not supported", "let the RUN fill the cache itself")),
                None => Ok(()),
            }
        }
        Step::Copy(copy) => match Select::new("", &copy.exclude) {
            Ok(_) => Ok(()),
            Err(why) => Err(at.error(format!("--exclude: {why}"), "mend the pattern")),
        },
        Step::Configuration | Step::Workdir { .. } => Ok(()),
    }
}

async fn image(engine: &Engine, at: &At, name: &str, events: &Sink) -> Result<crate::ImageInfo> {
    let located = |error: Error| super::named(at, error);
    if let Some(found) = engine.image(name).await.map_err(located)? {
        return Ok(found);
    }
    engine.pull(name, events, name).await.map_err(located)?;
    engine.image(name).await.map_err(located)?.ok_or_else(|| {
        let hint = match engine.kind() {
            Kind::Docker => "`docker images` lists what there is",
            Kind::Podman => "`podman images` lists what there is",
            Kind::Embedded => "`twostage flatten` and `twostage runtime` put images into the embedded engine, and so does a project's base",
        };
        Error::new(Class::Engine, format!("Dockerfile {at}: there is no image {name}")).hint(hint)
    })
}

/// What the engine runs, as Go names it.
pub fn platform(engine: &Engine) -> Platform {
    let (architecture, variant) = match engine.architecture() {
        "i386" => ("386", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "ppc64el" => ("ppc64le", None),
        "mipsel" => ("mipsle", None),
        "mips64el" => ("mips64le", None),
        same => (same, None),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(String::from) }
}
