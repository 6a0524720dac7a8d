//! What each FROM, `COPY --from` and mount names, once the build arguments and the platform are known.
//! BuildKit's `dockerfile2llb`: `buildMetaArgs`, `addState`, `toCommand`, `detectRunMount`.

use super::expand::{Env, Lexer};
use super::flags::{MountKey, MountSpec};
use super::{At, Dockerfile, Instruction, Located, Stage, Warning};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use twostage_model::{Error, Result};

/// Build arguments that nobody has to declare. RUN has them in its environment, and they are neither in the image
/// nor, unless an ARG declares them, in its history.
pub const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// What a Dockerfile is built with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub target: Platform,
    /// What the build runs on.
    pub build: Platform,
    /// `--build-context`, by names in the form of [`familiar`].
    pub contexts: BTreeMap<String, NamedContext>,
}

/// What a name stands for that is given to the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder of files.
    Folder,
    /// An image, by its name in the engine.
    Image(String),
}

/// A name of an image as people write it, which is also how contexts are named: `docker.io/library/alpine:latest` is
/// `alpine` (`reference.FamiliarString`).
pub fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

impl Options {
    /// What a name stands for, if it is given. `scratch` is nothing, and `context` is the build's own.
    fn context(&self, name: &str) -> Option<&NamedContext> {
        self.contexts.get(familiar(name)).filter(|_| !matches!(name, "scratch" | "context"))
    }
}

impl Options {
    /// The proxies among the build arguments, each in small and in capital letters, as RUN sees them.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for name in PROXIES {
            // Of several spellings the last one counts, as in BuildKit's `proxyEnvFromBuildArgs`.
            let value = self.build_args.iter().rev().find(|(given, _)| given.eq_ignore_ascii_case(name));
            if let Some((_, value)) = value.filter(|(_, value)| !value.is_empty()) {
                proxies.push((name.to_uppercase(), value.clone()));
                proxies.push((name.to_owned(), value.clone()));
            }
        }
        proxies
    }
}

/// `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture, as Go names it.
    pub architecture: String,
    /// Which one of that architecture.
    pub variant: Option<String>,
}

impl Default for Platform {
    fn default() -> Self {
        Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// Reads `linux/arm64`, `linux/arm/v7`, or only an architecture of the operating system of `other`.
    fn parse(text: &str, other: &Platform) -> Option<Platform> {
        let word = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word) {
            return None;
        }
        let (os, architecture, variant) = match parts.as_slice() {
            ["linux"] => return (other.os == "linux").then(|| other.clone()),
            [architecture] => (other.os.as_str(), *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(variant.to_lowercase())),
            _ => return None,
        };
        let architecture = architecture.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant) {
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386", _) => ("386", None),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", Some("v7".to_owned())),
            ("armel", _) => ("arm", Some("v6".to_owned())),
            (other, variant) => (other, variant),
        };
        // The usual variant of an architecture is not said (`platforms.Normalize`).
        let variant = variant.filter(|variant| !matches!((architecture, variant.as_str()), ("arm64", "v8" | "8") | ("amd64", "v1")));
        let variant = variant.or_else(|| (architecture == "arm").then(|| "v7".to_owned()));
        Some(Platform { os: os.to_lowercase(), architecture: architecture.to_owned(), variant })
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage of the file.
    Stage(usize),
    /// An image.
    Image(String),
}

/// Where files of a COPY, ADD or mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    Context,
    /// An earlier stage of the file.
    Stage(usize),
    /// An image.
    Image(String),
    /// A folder that is given by this name.
    Folder(String),
    /// Nothing: an empty folder.
    Scratch,
}

/// A Dockerfile whose names are resolved.
#[derive(Debug, Clone)]
pub struct Plan<'f> {
    /// The file.
    pub file: &'f Dockerfile,
    /// What it is built with.
    pub options: Options,
    /// The global ARGs and the predefined ones, as FROM sees them.
    pub globals: Env,
    /// The stages, in order.
    pub stages: Vec<PlannedStage<'f>>,
}

/// A stage whose names are resolved.
#[derive(Debug, Clone)]
pub struct PlannedStage<'f> {
    /// What it starts from.
    pub base: Base,
    /// What `--platform` says, else the target.
    pub platform: Platform,
    /// The stage.
    pub stage: &'f Stage,
    /// A context of its name is given: that is the stage, and what the file says of it is not done.
    pub replaced: bool,
}

impl<'f> PlannedStage<'f> {
    /// What follows the FROM, as far as it is done.
    pub fn instructions(&self) -> &'f [Located] {
        if self.replaced { &[] } else { &self.stage.instructions }
    }
}

impl Dockerfile {
    /// Resolves what FROM, `COPY --from` and mounts name.
    ///
    /// # Errors
    /// A word cannot be expanded; a base is empty; a platform is none; a stage is used that does not come earlier.
    /// Of stages that a target does not need, only what they start from is looked at, and the numbers of stages.
    pub fn plan(&self, options: Options) -> Result<Plan<'_>> {
        let globals = self.globals(&options)?;
        let mut stages: Vec<PlannedStage<'_>> = Vec::new();
        for stage in &self.stages {
            let base = expand(&stage.at, &globals, self.escape, &stage.base)?;
            if base.is_empty() {
                let hint = format!("give {} a default with ARG before the first FROM, or with --build-arg", stage.base);
                return Err(stage.at.error(format!("the base {} is empty", stage.base), hint));
            }
            let platform = match &stage.platform {
                None => options.target.clone(),
                Some(text) => {
                    let value = expand(&stage.at, &globals, self.escape, text)?;
                    Platform::parse(&value, &options.target)
                        .ok_or_else(|| stage.at.error(format!("--platform={value} is no platform"), "write for example linux/amd64"))?
                }
            };
            let earlier = stages.iter().rposition(|earlier| earlier.stage.name.as_ref() == Some(&base));
            let replacement = stage.name.as_ref().and_then(|name| options.context(name).map(|context| (name, context)));
            let replaced = replacement.is_some();
            let folder = |name: &str| {
                let hint = format!("write FROM scratch, and below it COPY --from={name} / /");
                stage.at.error(format!("the context {name} is a folder, which is no base here"), hint)
            };
            let base = match (replacement, earlier) {
                (Some((_, NamedContext::Image(image))), _) => Base::Image(image.clone()),
                (Some((name, NamedContext::Folder)), _) => return Err(folder(name)),
                (None, Some(earlier)) => Base::Stage(earlier),
                (None, None) if base == "scratch" => Base::Scratch,
                (None, None) => match options.context(&base) {
                    Some(NamedContext::Image(image)) => Base::Image(image.clone()),
                    Some(NamedContext::Folder) => return Err(folder(&base)),
                    None => Base::Image(base),
                },
            };
            let platform = match &base {
                Base::Stage(earlier) => stages.get(*earlier).map_or(platform, |earlier| earlier.platform.clone()),
                _ => platform,
            };
            stages.push(PlannedStage { base, platform, stage, replaced });
        }
        let plan = Plan { file: self, options, globals, stages };
        // (A stage that is not needed may name one that comes later, as in BuildKit, but none that there is not.)
        for planned in &plan.stages {
            for located in planned.instructions() {
                if let Instruction::Copy(copy) = &located.instruction
                    && let Some(Ok(index)) = copy.from.as_ref().map(|from| from.parse::<usize>())
                    && index >= plan.stages.len()
                {
                    return Err(plan.no_stage(&located.at, &index.to_string()));
                }
            }
        }
        Ok(plan)
    }

    fn globals(&self, options: &Options) -> Result<Env> {
        let mut globals = Env::default();
        for (prefix, platform) in [("BUILD", &options.build), ("TARGET", &options.target)] {
            let whole = platform.to_string();
            let parts = [
                ("PLATFORM", whole.as_str()),
                ("OS", &platform.os),
                ("ARCH", &platform.architecture),
                ("VARIANT", platform.variant.as_deref().unwrap_or_default()),
            ];
            for (part, value) in parts {
                let name = format!("{prefix}{part}");
                let value = options.build_args.get(&name).map_or(value, String::as_str).to_owned();
                globals.set(name, value);
            }
        }
        for (at, args) in &self.global_args {
            for arg in args {
                match (options.build_args.get(&arg.name), &arg.default) {
                    (Some(value), _) => globals.set(&arg.name, value),
                    (None, Some(default)) => {
                        let value = expand(at, &globals, self.escape, default)?;
                        globals.set(&arg.name, value);
                    }
                    (None, None) => {}
                }
            }
            check_variables(at, &globals)?;
        }
        Ok(globals)
    }
}

pub(super) fn check_variables(at: &At, env: &Env) -> Result<()> {
    if env.len() > super::MAX_VARIABLES {
        return Err(at.error(format!("there are more than {} variables", super::MAX_VARIABLES), "write them into a file that RUN reads"));
    }
    Ok(())
}

fn expand(at: &At, env: &Env, escape: char, word: &str) -> Result<String> {
    Lexer::new(env, escape).word(word).map_err(|problem| problem.at(at))
}

impl Plan<'_> {
    /// What `COPY --from=from` of the stage `stage` means: a number is a stage, a name is a stage if there is one,
    /// else an image.
    ///
    /// # Errors
    /// The stage does not come earlier.
    pub fn copy_from(&self, at: &At, stage: usize, from: &str) -> Result<Origin> {
        match from.parse::<usize>() {
            Ok(index) => self.earlier(at, stage, index, from),
            Err(_) => self.named(at, stage, from),
        }
    }

    /// What `from=` of a mount of the stage `stage` means; a number is no stage here.
    ///
    /// # Errors
    /// The stage does not come earlier.
    pub fn mount_from(&self, at: &At, stage: usize, mount: &MountSpec) -> Result<Option<Origin>> {
        let from = mount.get(MountKey::From).filter(|from| !from.is_empty());
        from.map(|from| self.named(at, stage, from)).transpose()
    }

    fn named(&self, at: &At, stage: usize, name: &str) -> Result<Origin> {
        match self.file.stage(name) {
            Some(index) => self.earlier(at, stage, index, name),
            None if name == "scratch" => Ok(Origin::Scratch),
            None => Ok(match self.options.context(name) {
                Some(NamedContext::Image(image)) => Origin::Image(image.clone()),
                Some(NamedContext::Folder) => Origin::Folder(familiar(name).to_owned()),
                None => Origin::Image(name.to_owned()),
            }),
        }
    }

    fn no_stage(&self, at: &At, name: &str) -> Error {
        at.error(format!("there is no stage {name}"), format!("the stages are 0 to {}", self.stages.len().saturating_sub(1)))
    }

    fn earlier(&self, at: &At, stage: usize, index: usize, name: &str) -> Result<Origin> {
        if index >= self.stages.len() {
            return Err(self.no_stage(at, name));
        }
        if index >= stage {
            return Err(at.error(format!("the stage {name} does not come before this one"), "move its FROM and all that follows up"));
        }
        Ok(Origin::Stage(index))
    }

    /// Where the COPYs and mounts of a stage take files from, each origin once.
    ///
    /// # Errors
    /// A stage that is named does not come earlier.
    pub fn origins(&self, stage: usize) -> Result<Vec<Origin>> {
        let mut origins: Vec<Origin> = Vec::new();
        let Some(planned) = self.stages.get(stage) else { return Ok(origins) };
        let mut add = |origin: Origin| {
            if !origins.contains(&origin) {
                origins.push(origin);
            }
        };
        for located in planned.instructions() {
            match &located.instruction {
                Instruction::Copy(copy) => add(match &copy.from {
                    Some(from) => self.copy_from(&located.at, stage, from)?,
                    None => Origin::Context,
                }),
                Instruction::Add(_) => add(Origin::Context),
                Instruction::Run(run) => {
                    for mount in &run.mounts {
                        if let Some(origin) = self.mount_from(&located.at, stage, mount)? {
                            add(origin);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(origins)
    }

    /// The stages that the stage `target` needs, itself included, in the order in which they can be built.
    ///
    /// # Errors
    /// As [`Plan::origins`].
    pub fn needed(&self, target: usize) -> Result<Vec<usize>> {
        let mut needed = BTreeSet::from([target]);
        // A stage names only earlier ones, so one walk from the end finds all.
        for index in (0..=target.min(self.stages.len().saturating_sub(1))).rev() {
            if !needed.contains(&index) {
                continue;
            }
            if let Some(PlannedStage { base: Base::Stage(base), .. }) = self.stages.get(index) {
                needed.insert(*base);
            }
            for origin in self.origins(index)? {
                if let Origin::Stage(origin) = origin {
                    needed.insert(origin);
                }
            }
        }
        Ok(needed.into_iter().collect())
    }

    /// Build arguments that no ARG of the file declares: Docker warns about them, as they change nothing.
    pub fn unused_arguments(&self) -> Vec<Warning> {
        let global = self.file.global_args.iter().flat_map(|(_, args)| args);
        let local = self.file.stages.iter().flat_map(|stage| &stage.instructions).filter_map(|located| match &located.instruction {
            Instruction::Arg(args) => Some(args),
            _ => None,
        });
        let mut declared: BTreeSet<&str> = global.chain(local.flatten()).map(|arg| arg.name.as_str()).collect();
        let predefined = self.globals.list();
        declared.extend(predefined.iter().map(|(name, _)| name.as_str()));
        let given = self.options.build_args.keys();
        given
            .filter(|name| !declared.contains(name.as_str()) && !PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name)))
            .map(|name| Warning { line: 0, what: format!("no ARG declares the build argument {name}") })
            .collect()
    }
}
