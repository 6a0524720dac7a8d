//! The sum of the warning against squashing: "instead of having 1 alpine layer (2MB), one Python layer (~50MB) and 10 app
//! layers (10x2MB) which is ~75MB, we end up with ~600MB". To the megabyte it is 72, and 522 on one base or 540 without.

use crate::support::*;
use twostage_image::plan::{Planned, plan};
use twostage_image::{read_archive, wanted};

/// A file of `bytes` bytes takes them, rounded up to 512, and one header.
fn member(bytes: u64) -> u64 {
    512 + bytes.div_ceil(512) * 512
}

const END: u64 = 1024;

/// Sizes in one hundredth of what the warning speaks of.
const BASE: u64 = 20_000;
const MIDDLE: u64 = 500_000;
const OWN: u64 = 20_000;

fn ten(merged: bool) -> Vec<Planned> {
    let file = |name: &str, bytes: u64, seed: u8| (name.to_string(), vec![seed; bytes as usize]);
    (0..10_u8)
        .map(|number| {
            let (middle, own) = (file("usr/middle", MIDDLE, 1), file("usr/own", OWN, 100 + number));
            let base = Tar::new().file("base", vec![0; BASE as usize]);
            let layers = if merged {
                vec![base.done(), Tar::new().file(&middle.0, &middle.1).file(&own.0, &own.1).done()]
            } else {
                vec![base.done(), Tar::new().file(&middle.0, &middle.1).done(), Tar::new().file(&own.0, &own.1).done()]
            };
            let image = read_archive(&docker_old(&layers)[..], &wanted).unwrap();
            let wire = image.layers.iter().map(|layer| layer.size / 2).collect();
            Planned { name: format!("image{number}"), image, wire }
        })
        .collect()
}

#[test]
fn ten_images_that_share_a_middle() {
    let (base, middle, own) = (member(BASE), member(MIDDLE), member(OWN));
    // As they are, in shared layers (a tar made by the tar crate ends with two blocks, as ours).
    let shared = plan(&ten(false), 10).unwrap();
    let of = |plan: &twostage_image::plan::Plan, name: &str| {
        let choice = plan.choices.iter().find(|choice| choice.name == name).unwrap();
        (choice.node, choice.layers)
    };
    let everything = (base + END) + (middle + END) + 10 * (own + END);
    assert_eq!(of(&shared, "as-they-are"), (everything, 3));
    assert_eq!(of(&shared, "flat"), (10 * (base + middle + own + END), 1), "the middle ten times, and the base too");
    // (Here a layer is half as long on the wire.)
    assert!(shared.choices.iter().filter(|choice| choice.name == "as-they-are").all(|choice| choice.wire == everything / 2));
    assert_eq!(shared.base_layers, 2);
    assert_eq!(of(&shared, "shared-base"), (everything, 3));
    assert_eq!(shared.choices[shared.best].name, "as-they-are");

    // Each has the middle in a layer of its own: ten times; the split finds it.
    let merged = plan(&ten(true), 10).unwrap();
    assert_eq!(merged.base_layers, 1);
    assert_eq!(of(&merged, "as-they-are"), ((base + END) + 10 * (middle + own + END), 2));
    assert_eq!(of(&merged, "shared-base"), ((base + END) + 10 * (middle + own + END), 2));
    assert_eq!(of(&merged, "split"), (everything, 3));
    assert_eq!(merged.choices[merged.best].name, "split");
    assert_eq!((merged.parts[0].images.len(), merged.parts[0].bytes, merged.parts.len()), (10, middle + END, 11));
    // By hand, in hundredths of megabytes; headers and ends of tars are less than one percent.
    let megabytes = |plan: &twostage_image::plan::Plan, name: &str| of(plan, name).0.div_ceil(10_000) as f64;
    for (plan, name, by_hand) in
        [(&shared, "as-they-are", 72.0), (&merged, "as-they-are", 522.0), (&merged, "split", 72.0), (&shared, "flat", 540.0)]
    {
        let found = megabytes(plan, name);
        assert!((by_hand..by_hand * 1.05).contains(&found), "{name}: {found} MB, by hand {by_hand}");
    }
}

#[test]
fn the_split_keeps_to_the_budget() {
    let plan = plan(&ten(true), 2).unwrap();
    let split = plan.choices.iter().find(|choice| choice.name == "split").unwrap();
    assert!(split.fits && split.layers == 2, "{split:?}");
    assert_eq!(plan.parts.len(), 10, "the middle went into each image's own layer");
    assert!(plan.to_text().contains("as they are"), "{}", plan.to_text());
    assert!(plan.to_html().contains("image9"));
}
