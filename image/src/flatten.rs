//! Many layers become one above a parent, whose layers stay as they are.
//!
//! Deletions of what the parent has stay deletions; what one of the layers adds and another deletes is
//! in no layer any more. The configuration is kept; its history says what was done and that its layers
//! are one now.

use crate::broken;
use crate::delta::Delta;
use crate::image::{Config, Image};
use crate::tree::Tree;
use crate::waste::Waste;
use serde_json::{Value, json};
use twostage_model::names::BASE_LABEL;
use twostage_model::{Class, Error, Result, Sha256};

/// Where an image's parent ends, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// How many of the image's layers, from the lowest, are its.
    pub layers: usize,
    /// For people: `debian:bookworm`, `its label twostage.base`.
    pub named: String,
}

/// The image that a reference names as parent: its layers must be the lowest of the image's.
///
/// # Errors
/// They are not.
pub fn onto(diff_ids: &[Sha256], parent: &[Sha256], named: &str) -> Result<Parent> {
    if diff_ids.starts_with(parent) {
        return Ok(Parent { layers: parent.len(), named: named.to_string() });
    }
    let same = diff_ids.iter().zip(parent).take_while(|(a, b)| a == b).count();
    let what = match same {
        0 => "the image shares no layer with it".to_string(),
        same => format!("the image shares only {same} of its {}", twostage_model::shown::count(parent.len(), "layer")),
    };
    Err(Error::new(Class::Usage, format!("{named} is not the parent of this image: {what}"))
        .hint("name the image that it was built on, or flatten everything with --all"))
}

/// What the image says of its parent itself: its label, else its history. A Dockerfile's own
/// instructions begin after the last step that sets CMD or ENTRYPOINT and has steps with layers after it.
pub fn told(config: &Config) -> Option<Parent> {
    if let Some(base) = config.labels.get(BASE_LABEL)
        && let Ok(base) = base.parse::<Sha256>()
        && let Some(at) = config.diff_ids.iter().position(|diff_id| *diff_id == base)
    {
        return Some(Parent { layers: at + 1, named: format!("its label {BASE_LABEL}") });
    }
    let with_layers = config.history.iter().filter(|step| !step.empty_layer).count();
    if with_layers != config.diff_ids.len() || with_layers < 2 {
        return None;
    }
    let mut layers = 0;
    let mut found = None;
    for step in &config.history {
        let sets = |word: &str| {
            let text = step.created_by.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(&step.created_by).trim_start();
            step.empty_layer && text.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '[']))
        };
        layers += usize::from(!step.empty_layer);
        if (sets("CMD") || sets("ENTRYPOINT")) && layers > 0 && layers < with_layers {
            found = Some(layers);
        }
    }
    if let Some(layers) = found {
        return Some(Parent { layers, named: format!("the history: its first {layers} layers end with a CMD of their own") });
    }
    // A root file system that was added or imported as a whole.
    let first = config.history.first()?;
    let whole = first.created_by.is_empty() || first.created_by.contains("ADD file:") || first.comment.starts_with("Imported from");
    whole.then(|| Parent { layers: 1, named: "the history: its first layer is a whole root file system".into() })
}

/// An image with one layer above its parent's.
pub struct Flat<'a> {
    /// How many layers the parent has.
    pub parent: usize,
    /// What the one layer holds; none if the layers above the parent change nothing.
    pub delta: Option<Delta<'a>>,
    /// What is no longer shipped.
    pub hidden: Waste,
    /// Bytes of the files above the parent, before.
    pub bytes_before: u64,
    layers: usize,
    id: Sha256,
    config_json: &'a [u8],
}

/// Flattens the layers above the first `parent` ones.
///
/// # Errors
/// The image has fewer layers.
pub fn flatten(image: &Image, parent: usize) -> Result<Flat<'_>> {
    if parent > image.layers.len() {
        return Err(broken(format!("the image has {} layers, so {parent} cannot be its parent's", image.layers.len())));
    }
    let (below, above) = image.layers.split_at(parent);
    let lower = Tree::new(below);
    let mut upper = lower.clone();
    (parent..).zip(above).for_each(|(number, layer)| upper.apply(layer, number));
    let delta = Delta::new(&lower, &upper);
    Ok(Flat {
        parent,
        delta: (!delta.is_empty()).then_some(delta),
        hidden: Waste::of(&image.layers, parent),
        bytes_before: above.iter().flat_map(|layer| &layer.entries).map(crate::Entry::size).sum(),
        layers: above.len(),
        id: image.id,
        config_json: &image.config_json,
    })
}

impl Flat<'_> {
    /// The image's configuration with the parent's layers and this one, `diff_id`. Everything else in
    /// it, what we do not know included, stays.
    ///
    /// # Errors
    /// It is no configuration of an image.
    pub fn config(&self, diff_id: Option<Sha256>) -> Result<Vec<u8>> {
        let wrong = || broken("the configuration is not what an image has");
        let mut config: Value = serde_json::from_slice(self.config_json).map_err(|_| wrong())?;
        let object = config.as_object_mut().ok_or_else(wrong)?;
        let created = object.get("created").cloned();
        let ids = object.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids")).and_then(Value::as_array_mut).ok_or_else(wrong)?;
        let all = ids.len();
        ids.truncate(self.parent);
        ids.extend(diff_id.map(|digest| Value::from(format!("sha256:{digest}"))));
        let steps = match object.get_mut("history") {
            Some(Value::Array(steps)) => std::mem::take(steps),
            _ => Vec::new(),
        };
        object.insert("history".into(), Value::Array(self.history(steps, all, created, diff_id)));
        serde_json::to_vec(&config).map_err(|_| wrong())
    }

    /// All steps stay, those above the parent as steps without a layer, and one more has their layer.
    fn history(&self, mut steps: Vec<Value>, layers: usize, created: Option<Value>, diff_id: Option<Sha256>) -> Vec<Value> {
        let is_empty = |step: &Value| step.get("empty_layer").and_then(Value::as_bool).unwrap_or(false);
        if steps.iter().filter(|step| !is_empty(step)).count() != layers {
            // It tells of other layers than there are, so it cannot tell which are the parent's.
            steps.iter_mut().for_each(set_empty);
            let unknown = json!({ "comment": "a layer of the parent, of which the history says nothing" });
            steps.splice(0..0, std::iter::repeat_n(unknown, self.parent));
        } else {
            steps.iter_mut().filter(|step| !is_empty(step)).skip(self.parent).for_each(set_empty);
        }
        if diff_id.is_some() {
            let mut step = serde_json::Map::new();
            step.extend(created.map(|created| ("created".to_string(), created)));
            step.insert("created_by".into(), "twostage flatten".into());
            step.insert("comment".into(), remark(self.layers, &self.id).into());
            steps.push(Value::Object(step));
        }
        steps
    }
}

/// What the history says of the one layer: how many it was, of which image.
pub fn remark(layers: usize, image: &Sha256) -> String {
    format!("{} of sha256:{image} in one", twostage_model::shown::count(layers, "layer"))
}

fn set_empty(step: &mut Value) {
    if let Some(step) = step.as_object_mut() {
        step.insert("empty_layer".into(), Value::Bool(true));
    }
}
