//! A stage while it is built: what its variables are, what its image's configuration is, and what the next
//! instruction does. BuildKit's `dockerfile2llb`, the `dispatch…` functions.
//!
//! Variables: ENV and ARG set one environment, and the later one counts. So ENV wins over an ARG before it, in the
//! stage and in the image; an ARG after an ENV of that name, also of the base, counts until the stage ends and is
//! not in the image. An ARG without a value sets nothing. A global ARG is seen after `ARG NAME` repeats its name.
//!
//! History lines have the form of BuildKit 0.13, which is Docker 26's. Later ones print EXPOSE as a list and
//! HEALTHCHECK with the names of its fields.

use super::config::{COMMENT, DEFAULT_PATH, History, ImageConfig, Nothing, go_list, go_quoted, split_env};
use super::expand::{Env, Lexer};
use super::mount::{self, Mount};
use super::plan::{Origin, Plan, check_variables};
use super::values::{self, join};
use super::{Arg, At, Chmod, Command, Instruction, Located, MAX_HISTORY, Pair, Run, RunNetwork, Transfer};
use std::collections::BTreeSet;
use twostage_model::{Result, Sha256};

/// Ports that one EXPOSE may name, at most.
const MAX_PORTS: usize = 1 << 18;

/// What a stage starts from.
#[derive(Debug)]
pub enum Start<'s> {
    /// Nothing.
    Scratch,
    /// An image, by its configuration.
    Image(Box<ImageConfig>),
    /// A stage that is built.
    Stage(&'s State),
}

/// A stage while it is built.
#[derive(Debug, Clone)]
pub struct State {
    /// The image so far. Whoever builds it adds layers, and times if it wants some.
    pub image: ImageConfig,
    stage: usize,
    env: Env,
    /// The ARGs that were declared, for the history of RUN, and what they are if no variable has that name.
    args: Vec<(String, Option<String>)>,
    cmd_set: bool,
    history_bytes: usize,
}

/// What an instruction asks an engine to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Only the configuration changed.
    Configuration,
    /// Run a command; its changes are a layer.
    Run(RunStep),
    /// Copy files; they are a layer.
    Copy(CopyStep),
    /// Make a folder and those above it, unless they are there; they are a layer.
    Workdir {
        /// Absolute, without `..`, never `/`.
        path: String,
        /// Whose it is: USER, empty for root.
        user: String,
    },
}

/// What a RUN does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Program and arguments; SHELL is in it.
    pub argv: Vec<String>,
    /// The environment: ENV and ARG, in the order in which they were set.
    pub env: Vec<(String, String)>,
    /// Proxies that were given and that no ENV or ARG sets; they are in no cache key.
    pub proxies: Vec<(String, String)>,
    /// USER, empty for root.
    pub user: String,
    /// Where it starts, absolute.
    pub workdir: String,
    /// What it sees besides.
    pub mounts: Vec<Mount>,
    /// What it may reach.
    pub network: RunNetwork,
    /// A heredoc that starts with `#!`: an executable file, mounted while the command runs.
    pub script: Option<Script>,
}

/// A file that only a RUN sees, mode 0755.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// `/dev/pipes/NAME`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// What a COPY or ADD does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// ADD: local archives are unpacked.
    pub unpack: bool,
    /// Whose files; URLs do not care.
    pub origin: Origin,
    /// What is copied, in order.
    pub sources: Vec<Source>,
    /// Then these, by name, mode 0644.
    pub documents: Vec<(String, String)>,
    /// Absolute, without `..`. A `/` at the end means that it is a folder.
    pub destination: String,
    /// `user:group`, names or numbers of the image.
    pub chown: Option<String>,
    /// What becomes of the mode of all that is copied.
    pub chmod: Option<Chmod>,
    /// What the only source, a URL, has to be.
    pub checksum: Option<Sha256>,
    /// What is not copied, in order; `!` takes in again, as in a `.dockerignore`. Paths are below each source.
    pub exclude: Vec<String>,
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path in the origin, absolute, without `..`; `*`, `?` and `[…]` are patterns.
    Path(String),
    /// `COPY --parents`: what a path or pattern names, with the folders that it is in. `**` is any number of folders.
    Parents {
        /// Where these folders begin, as [`Source::Path`]: what stands before `/./`, or the root.
        root: String,
        /// The path or pattern there, without a slash at either end; empty is all.
        only: String,
    },
    /// A file to fetch, which is not unpacked; its name is the last part of the URL's path.
    Url(String),
}

impl State {
    /// Starts the stage `stage` of a plan.
    ///
    /// # Errors
    /// The base has more variables than [`super::MAX_VARIABLES`].
    pub fn begin(plan: &Plan<'_>, stage: usize, start: Start<'_>) -> Result<State> {
        let inherited = matches!(start, Start::Stage(_));
        let at = plan.stages.get(stage).map_or(At { line: 1, instruction: "FROM".into() }, |planned| planned.stage.at.clone());
        let mut state = match start {
            // (Its ARGs are variables here, too, but no longer in the history of RUN.)
            Start::Stage(base) => State { stage, cmd_set: false, args: Vec::new(), ..base.clone() },
            Start::Image(image) => State::new(stage, *image),
            Start::Scratch => {
                let platform = plan.stages.get(stage).map_or(&plan.options.target, |planned| &planned.platform);
                State::new(stage, ImageConfig::scratch(platform))
            }
        };
        let run = &mut state.image.config;
        if !run.env.iter().any(|entry| split_env(entry).0 == "PATH") {
            run.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        if inherited {
            return Ok(state);
        }
        for entry in &run.env {
            let (name, value) = split_env(entry);
            state.env.set(name, value);
        }
        if !run.working_dir.is_empty() {
            run.working_dir = values::workdir("", &run.working_dir);
        }
        check_variables(&at, &state.env)?;
        Ok(state)
    }

    fn new(stage: usize, mut image: ImageConfig) -> State {
        image.created = None;
        State { image, stage, env: Env::default(), args: Vec::new(), cmd_set: false, history_bytes: 0 }
    }

    /// The variables as the next instruction sees them.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Does to the configuration what the instruction says, adds its history line, and says what is left to do.
    ///
    /// The history line of a step that makes a layer says so, whether or not something changes in the end.
    ///
    /// # Errors
    /// A variable cannot be expanded or a value is not what the instruction takes; the error names the line and the
    /// edit that mends it. The state is then of no use.
    pub fn apply(&mut self, plan: &Plan<'_>, located: &Located) -> Result<Step> {
        let at = &located.at;
        let escape = plan.file.escape;
        let mut step = Step::Configuration;
        let line = match &located.instruction {
            Instruction::Run(run) => self.run(plan, at, run, &mut step)?,
            Instruction::Copy(transfer) | Instruction::Add(transfer) => self.transfer(plan, at, transfer, &mut step)?,
            Instruction::Workdir(path) => self.workdir(&self.words(at, escape, [path])?.concat(), &mut step),
            Instruction::Arg(args) => self.arg(plan, at, args)?,
            Instruction::Env(pairs) => self.set_env(at, escape, pairs)?,
            Instruction::Label(pairs) => self.label(at, escape, pairs)?,
            Instruction::User(user) => {
                self.image.config.user = self.words(at, escape, [user])?.concat();
                format!("USER {}", self.image.config.user)
            }
            Instruction::Shell(words) => {
                self.image.config.shell.clone_from(words);
                format!("SHELL {}", go_list(words))
            }
            Instruction::Cmd(command) => self.cmd(command),
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Expose(words) => self.expose(at, escape, words)?,
            Instruction::Volume(paths) => self.volume(at, escape, paths)?,
            Instruction::Healthcheck(check) => {
                let health = values::health(check);
                let line = values::health_line(&health);
                self.image.config.healthcheck = Some(health);
                line
            }
            Instruction::StopSignal(signal) => self.stop_signal(at, escape, signal)?,
            Instruction::Maintainer(name) => {
                self.image.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
        };
        check_variables(at, &self.env)?;
        self.history_bytes += line.len();
        if self.history_bytes > MAX_HISTORY {
            return Err(at.error(format!("the history has more than {MAX_HISTORY} bytes"), "shorten the values of variables"));
        }
        let empty_layer = step == Step::Configuration;
        self.image.history.push(History { created_by: line, comment: COMMENT.into(), empty_layer, ..History::default() });
        Ok(step)
    }

    fn set_env(&mut self, at: &At, escape: char, pairs: &[Pair]) -> Result<String> {
        let mut line = String::from("ENV");
        for (name, value) in self.pairs(at, escape, pairs)? {
            line += &format!(" {name}={value}");
            self.image.config.set_env(&name, &value);
            self.env.set(name, value);
            check_variables(at, &self.env)?;
        }
        Ok(line)
    }

    fn label(&mut self, at: &At, escape: char, pairs: &[Pair]) -> Result<String> {
        let mut line = String::from("LABEL");
        for (name, value) in self.pairs(at, escape, pairs)? {
            line += &format!(" {name}={value}");
            self.image.config.labels.insert(name, value);
        }
        Ok(line)
    }

    fn cmd(&mut self, command: &Command) -> String {
        let words = self.command(command);
        let line = format!("CMD {}", go_quoted(&words));
        self.image.config.cmd = words;
        self.image.config.args_escaped = true;
        self.cmd_set = true;
        line
    }

    fn entrypoint(&mut self, command: &Command) -> String {
        let words = self.command(command);
        let line = format!("ENTRYPOINT {}", go_quoted(&words));
        self.image.config.entrypoint = words;
        // A CMD of the base was meant for the entrypoint of the base.
        if !self.cmd_set {
            self.image.config.cmd.clear();
        }
        line
    }

    fn expose(&mut self, at: &At, escape: char, words: &[String]) -> Result<String> {
        let mut lexer = Lexer::new(&self.env, escape);
        let mut ports = BTreeSet::new();
        let mut count = 0;
        for word in words {
            for spec in lexer.words(word).map_err(|problem| problem.at(at))? {
                let found = values::ports(&spec).map_err(|what| at.error(what, "write for example 80, 53/udp or 8000-8010/tcp"))?;
                count += found.len();
                if count > MAX_PORTS {
                    return Err(at.error(format!("it names more than {MAX_PORTS} ports"), "name each port once"));
                }
                ports.extend(found);
            }
        }
        let shown: Vec<String> = ports.iter().map(|port| format!("{port}:{{}}")).collect();
        self.image.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Nothing {})));
        Ok(format!("EXPOSE map[{}]", shown.join(" ")))
    }

    fn volume(&mut self, at: &At, escape: char, paths: &[String]) -> Result<String> {
        let paths = self.words(at, escape, paths)?;
        if paths.iter().any(String::is_empty) {
            return Err(at.error("a volume is empty", "give the variable in it a value"));
        }
        let line = format!("VOLUME {}", go_list(&paths));
        self.image.config.volumes.extend(paths.into_iter().map(|path| (path, Nothing {})));
        Ok(line)
    }

    fn stop_signal(&mut self, at: &At, escape: char, signal: &String) -> Result<String> {
        let signal = self.words(at, escape, [signal])?.concat();
        if !values::is_signal(&signal) {
            return Err(at.error(format!("there is no signal {signal:?}"), "write for example SIGTERM or 15"));
        }
        let line = format!("STOPSIGNAL {signal}");
        self.image.config.stop_signal = signal;
        Ok(line)
    }

    /// Expands words, all with the variables as they are before the instruction.
    fn words<'w>(&self, at: &At, escape: char, words: impl IntoIterator<Item = &'w String>) -> Result<Vec<String>> {
        let mut lexer = Lexer::new(&self.env, escape);
        let expand = |word: &String| lexer.word(word).map_err(|problem| problem.at(at));
        words.into_iter().map(expand).collect()
    }

    fn pairs(&self, at: &At, escape: char, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        let words = self.words(at, escape, pairs.iter().flat_map(|pair| [&pair.name, &pair.value]))?;
        let mut words = words.into_iter();
        let mut expanded = Vec::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if name.is_empty() {
                return Err(at.error("a name is empty", "give the variable in it a value"));
            }
            expanded.push((name, value));
        }
        Ok(expanded)
    }

    fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => self.image.config.with_shell(text),
        }
    }

    /// `dispatchArg`: a build argument, else the default, else the global ARG of that name, else nothing. Defaults see what
    /// was set before the instruction, not what it sets itself.
    fn arg(&mut self, plan: &Plan<'_>, at: &At, args: &[Arg]) -> Result<String> {
        let names = self.words(at, plan.file.escape, args.iter().map(|arg| &arg.name))?;
        let mut values = Vec::new();
        for (arg, name) in args.iter().zip(&names) {
            values.push(match (plan.options.build_args.get(name), &arg.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.words(at, plan.file.escape, [default])?.concat()),
                (None, None) => plan.globals.get(name).map(str::to_owned),
            });
        }
        let mut line = String::from("ARG");
        for (name, value) in names.into_iter().zip(values) {
            line += &format!(" {name}");
            if let Some(value) = &value {
                line += &format!("={value}");
                self.env.set(&name, value);
            }
            if line.len() > MAX_HISTORY {
                return Err(at.error(format!("it has more than {MAX_HISTORY} bytes"), "shorten the values"));
            }
            check_variables(at, &self.env)?;
            // (One that is declared again is there again, in the history, too.)
            if self.args.len() >= super::MAX_VARIABLES {
                return Err(at.error(format!("there are more than {} ARGs", super::MAX_VARIABLES), "remove some"));
            }
            self.args.push((name, value));
        }
        Ok(line)
    }

    /// `dispatchWorkdir`: a relative path starts from the last one; an absolute one stays as it is written.
    fn workdir(&mut self, path: &str, step: &mut Step) -> String {
        let path = values::workdir(&self.image.config.working_dir, path);
        let line = format!("WORKDIR {path}");
        let clean = join("/", &path);
        // BuildKit looks at the text, so `WORKDIR //` makes a layer that holds nothing; here it makes none.
        if clean != "/" {
            *step = Step::Workdir { path: clean, user: self.image.config.user.clone() };
        }
        self.image.config.working_dir = path;
        line
    }

    fn here(&self) -> String {
        join("/", &self.image.config.working_dir)
    }

    /// `dispatchRun`.
    fn run(&self, plan: &Plan<'_>, at: &At, run: &Run, step: &mut Step) -> Result<String> {
        let mut script = None;
        let argv = match &run.command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let text = match run.heredocs.as_slice() {
                    [] => text.clone(),
                    // The whole command is a document: it is the script.
                    [only] if super::lines::heredoc(text).is_some() => {
                        let document = only.text();
                        if document.starts_with("#!") {
                            if only.name.contains('/') || matches!(only.name.as_str(), "." | "..") {
                                return Err(at.error(format!("{:?} cannot be the name of a script", only.name), "use a name like EOF"));
                            }
                            let path = format!("/dev/pipes/{}", only.name);
                            script = Some(Script { path: path.clone(), text: document });
                            path
                        } else {
                            document
                        }
                    }
                    // Else they are the shell's.
                    several => {
                        let mut text = text.clone();
                        for document in several {
                            text += &format!("\n{}{}", document.content, document.name);
                        }
                        text
                    }
                };
                self.image.config.with_shell(&text)
            }
        };
        let mut lexer = Lexer::new(&self.env, plan.file.escape);
        let mut mounts = Vec::new();
        for spec in &run.mounts {
            let from = plan.mount_from(at, self.stage, spec)?;
            let expand = |word: &str| lexer.word(word).map_err(|problem| problem.at(at));
            let agents = mounts.iter().filter(|mount| matches!(mount, Mount::Ssh { .. })).count();
            mounts.push(mount::resolve(at, spec, from, &self.here(), agents, expand)?);
        }
        let arguments: Vec<String> = self.args.iter().map(|(name, value)| self.shown(name, value.as_deref())).collect();
        let count = if arguments.is_empty() { String::new() } else { format!("|{} {} ", arguments.len(), arguments.join(" ")) };
        let line = format!("RUN {count}{} # buildkit", argv.join(" "));
        let proxies = plan.options.proxies().into_iter().filter(|(name, _)| self.env.get(name).is_none()).collect();
        let (mut env, user, workdir) = (self.env.list(), self.image.config.user.clone(), self.here());
        let agent = mounts.iter().find_map(|mount| if let Mount::Ssh { target, .. } = mount { Some(target.clone()) } else { None });
        if let (Some(agent), None) = (agent, self.env.get(mount::AGENT)) {
            // (Also where no agent is forwarded, as in BuildKit.)
            env.push((mount::AGENT.to_owned(), agent));
        }
        *step = Step::Run(RunStep { argv, env, proxies, user, workdir, mounts, network: run.network, script });
        Ok(line)
    }

    fn shown(&self, name: &str, value: Option<&str>) -> String {
        format!("{name}={}", self.env.get(name).or(value).unwrap_or_default())
    }

    /// `dispatchCopy`.
    fn transfer(&self, plan: &Plan<'_>, at: &At, transfer: &Transfer, step: &mut Step) -> Result<String> {
        let unpack = at.instruction == "ADD";
        let escape = plan.file.escape;
        let none = String::new();
        let mut flags = [&transfer.chown, &transfer.chmod, &transfer.checksum].map(|flag| flag.as_ref().unwrap_or(&none)).to_vec();
        flags.push(&transfer.destination);
        let mut words = self.words(at, escape, transfer.sources.iter().chain(flags))?;
        let exclude = self.words(at, escape, &transfer.exclude)?;
        let mut last = || words.pop().unwrap_or_default();
        let (written, checksum, chmod, chown) = (last(), last(), last(), last());
        let mut line = at.instruction.clone();
        if transfer.parents {
            line += " --parents";
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod)] {
            if !value.is_empty() {
                line += &format!(" --{flag}={value}");
            }
        }
        let mut sources = Vec::new();
        for word in words {
            line += &format!(" {word}");
            sources.push(values::source(at, unpack, transfer.parents, word)?);
        }
        let mut lexer = Lexer::document(&self.env);
        let mut documents = Vec::new();
        for document in &transfer.documents {
            line += &format!(" <<{}", document.name);
            let mut text = document.text();
            if document.expand {
                text = lexer.word(&text).map_err(|problem| problem.at(at))?;
            }
            documents.push((document.name.clone(), text));
        }
        line += &format!(" {written} # buildkit");
        let mode = match chmod.as_str() {
            "" => None,
            text => Some(Chmod::parse(text).map_err(|why| {
                at.error(format!("--chmod={text} is not a mode: {why}"), "write it in octal, for example 0755, or as changes: u=rwX,go=rX")
            })?),
        };
        let origin = match &transfer.from {
            Some(from) => plan.copy_from(at, self.stage, from)?,
            None => Origin::Context,
        };
        let mut destination = join(&self.here(), &written);
        let folder = written.is_empty() || written == "." || written.ends_with('/') || written.ends_with("/.");
        if folder && !destination.ends_with('/') {
            destination.push('/');
        }
        let chown = Some(chown).filter(|chown| !chown.is_empty());
        let checksum = if checksum.is_empty() { None } else { Some(values::checksum(at, &checksum, &sources)?) };
        let nameless = |source: &&Source| matches!(source, Source::Url(url) if values::url_name(url).is_none());
        if let (true, Some(Source::Url(url))) = (folder, sources.iter().find(nameless)) {
            let hint = "name the file that it becomes: a destination without a slash at its end";
            return Err(at.error(format!("{} names no file, and {written} is a folder", twostage_model::url::shown(url)), hint));
        }
        *step = Step::Copy(CopyStep { unpack, origin, sources, documents, destination, chown, chmod: mode, checksum, exclude });
        Ok(line)
    }
}
