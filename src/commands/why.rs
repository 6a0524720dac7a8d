//! `twostage why`: who needs a package, in each closure of the lock that has it.

use crate::cli::{ProjectArgs, Why};
use crate::commands::repo::{closure_name, members, own_packages, wanted};
use crate::commands::runtime::published;
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeMap;
use twostage_builder::why;
use twostage_model::{Class, Error, Result};

pub fn run(arguments: &Why, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open_shared(project, output)?;
    let lock = session.read_lock()?;
    let channel = session.repository.channels().get(&session.project.repository.channel)?;
    let built = channel.map_or_else(|| Ok(BTreeMap::new()), |channel| published(&session, &channel))?;
    let own = own_packages(&session, &built)?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for (of, closure) in &lock.closures {
        if !closure.own.contains(&arguments.package) && closure.packages.iter().all(|package| package.id.name != arguments.package) {
            continue;
        }
        let image = session.project.images.values().find(|image| closure_name(&image.name.value) == *of);
        // A build is asked for by the words of its packaging.
        let roots = image.map_or_else(
            || closure.asked.iter().map(|word| word.strip_prefix("own ").unwrap_or(word).to_string()).collect(),
            |image| wanted(&session.project, image),
        );
        let chain = why::chain(session.project.format, &members(&session, closure, &own)?, &roots, &arguments.package);
        let told = chain
            .as_ref()
            .map_or_else(|| "it is there, and nothing that was asked for leads to it".to_string(), |chain| why::sentence(chain));
        lines.push(format!("{of}  {told}"));
        values.push(serde_json::json!({ "closure": of, "chain": chain }));
    }
    if lines.is_empty() {
        return Err(Error::new(Class::Usage, format!("no closure of twostage.lock has {}", arguments.package))
            .hint("`twostage list` shows the packages of the channels; what the base has is in no closure"));
    }
    output.result(&lines.join("\n"), &serde_json::json!({ "event": "why", "package": arguments.package, "closures": values }));
    Ok(())
}
