//! `twostage gc`: says what nothing needs of the repository and why the rest stays, and frees it with `--yes`.

use crate::cli::{Gc, ProjectArgs};
use crate::output::Output;
use crate::session::Session;
use std::collections::BTreeMap;
use twostage_beneath::read_text;
use twostage_model::shown::{count, size};
use twostage_model::{Class, Lock, Result, Sha256};
use twostage_reposerver::{GRACE, Needs, Plan, Thing, What};

/// Bytes of a lock, at most.
const MAX_LOCK: u64 = 64 << 20;
/// The kinds, in the order in which they are told, with the word for one.
const KINDS: [(What, &str); 6] = [
    (What::State, "earlier state"),
    (What::Build, "build record"),
    (What::Snapshot, "snapshot"),
    (What::Package, "package file"),
    (What::Signature, "signature"),
    (What::Blob, "blob"),
];

pub fn run(arguments: &Gc, project: &ProjectArgs, output: &Output) -> Result<()> {
    let session = Session::open(project, output)?;
    let mut digests = BTreeMap::new();
    needed(&session.read_lock()?, "twostage.lock", &mut digests);
    for path in &arguments.locks {
        let shown = path.display().to_string();
        needed(&Lock::parse(&read_text(path, MAX_LOCK, Class::Usage)?, &shown)?, &shown, &mut digests);
    }
    let needs = Needs { digests, now: session.now, grace: GRACE };
    let plan = if arguments.yes { session.repository.free(&needs)? } else { session.repository.waste(&needs)? };
    let kinds: serde_json::Map<_, _> = KINDS
        .iter()
        .map(|(what, word)| {
            let (number, bytes) = plan.freed(*what);
            (word.replace(' ', "_"), serde_json::json!({ "number": number, "bytes": bytes }))
        })
        .collect();
    let mut value = serde_json::json!({
        "event": if arguments.yes { "freed" } else { "waste" }, "bytes": plan.bytes(), "freed": plan.free, "kinds": kinds,
        "catalog_waste": plan.catalog_waste, "catalog_rewritten": plan.rewrites_catalog,
    });
    if arguments.why {
        value["stays"] = serde_json::json!(plan.stays);
    }
    output.result(&to_text(&plan, arguments), &value);
    Ok(())
}

/// What a lock names: packages of closures, files of sources, bases.
fn needed(lock: &Lock, who: &str, digests: &mut BTreeMap<Sha256, String>) {
    let packages = lock.packages().into_keys();
    let sources = lock.sources.values().flat_map(|source| source.files.values().map(|(_, digest)| *digest));
    let bases = lock.bases.values().map(|base| base.digest);
    for digest in packages.chain(sources).chain(bases) {
        digests.entry(digest).or_insert_with(|| who.to_string());
    }
}

fn to_text(plan: &Plan, arguments: &Gc) -> String {
    let mut lines = Vec::new();
    let shown = |thing: &Thing| match thing.what {
        What::Snapshot => format!("@{}", thing.name.chars().take(12).collect::<String>()),
        _ => thing.name.clone(),
    };
    if arguments.why {
        for (kind, word) in KINDS {
            for thing in plan.stays.iter().filter(|thing| thing.what == kind) {
                lines.push(format!("stays  {word} {}  {}", shown(thing), thing.why.join("; ")));
            }
        }
    }
    let (verb, would) = if arguments.yes { ("freed", "") } else { ("waste", ", `twostage gc --yes` frees it") };
    for (kind, word) in KINDS {
        for thing in plan.free.iter().filter(|thing| thing.what == kind && kind != What::Signature) {
            lines.push(format!("{verb}  {word} {}  {}", shown(thing), size(thing.bytes)));
        }
    }
    if plan.rewrites_catalog {
        lines.push(format!("{verb}  in the catalog  {}", size(plan.catalog_waste)));
    }
    if plan.is_empty() {
        lines.push("nothing to free: all that is there is needed; `--why` says by what".into());
    } else {
        let parts: Vec<String> = KINDS
            .iter()
            .map(|(kind, word)| (plan.freed(*kind).0, *word))
            .filter(|(number, _)| *number > 0)
            .map(|(number, word)| count(number, word))
            .collect();
        lines.push(format!("{}{}{}{would}", parts.join(", "), if parts.is_empty() { "" } else { ": " }, size(plan.bytes())));
    }
    lines.join("\n")
}
