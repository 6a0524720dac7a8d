//! What only the project's builders need, so that an audit finds it in any layer.

use crate::session::{Session, rpm_header};
use std::collections::BTreeSet;
use twostage_builder::parallel::in_parallel;
use twostage_image::Leaks;
use twostage_model::{Result, Sha256};
use twostage_package::rpmdb::Expected;
use twostage_package::{deb, rpm};
use twostage_reposerver::{Kind, PoolPackage};

/// The packages of the lock's build closures, and of the channel's components, that the project's `image` does not
/// install, or, where it is none of the project's, that none of its images does. What the pool does not have is looked
/// for by its name.
pub fn of(session: &Session, image: Option<&str>) -> Result<Leaks> {
    let lock = session.read_lock()?;
    let (images, builds): (Vec<_>, Vec<_>) = lock.closures.iter().partition(|(of, _)| of.starts_with("runtime:"));
    let ours = image.map(|image| format!("runtime:{image}")).filter(|ours| images.iter().any(|(of, _)| *of == ours));
    let images = images.into_iter().filter(|(of, _)| ours.as_ref().is_none_or(|ours| *of == ours));
    let installed = images.flat_map(|(_, closure)| closure.packages.iter().map(|package| &package.id.name).chain(&closure.own));
    let installed: BTreeSet<&String> = installed.collect();
    let (mut leaks, mut digests) = (Leaks::default(), BTreeSet::new());
    for package in builds.iter().flat_map(|(_, closure)| &closure.packages) {
        if session.repository.pool().contains(&package.sha256)? {
            digests.insert(package.sha256);
        } else if !installed.contains(&package.id.name) {
            leaks.add_name(session.project.format, &package.id.name);
        }
    }
    let channel = session.repository.channels().get(&session.project.repository.channel)?;
    let members = channel.iter().flat_map(|channel| &channel.members).filter(|(group, _)| group.starts_with("component:"));
    for digest in members.flat_map(|(_, members)| members) {
        if session.repository.pool().contains(digest)? {
            digests.insert(*digest);
        }
    }
    let digests: Vec<Sha256> = digests.into_iter().collect();

    let found = in_parallel(&digests, |digest| {
        let package = session.repository.pool().package(digest)?;
        let wanted = !installed.contains(&package.id.name) && matches!(package.kind, Kind::Deb | Kind::Rpm);
        let files = if wanted { Some(brought(session, &package)?) } else { None };
        Ok(files.map(|files| (package, files)))
    })?;
    for (package, files) in found.into_iter().flatten() {
        leaks.add(session.project.format, &package.id.name, &package.id.version, files);
    }
    Ok(leaks)
}

/// Paths of a package without their slash, and what is there.
fn brought(session: &Session, package: &PoolPackage) -> Result<Vec<(String, Expected)>> {
    if package.kind.is_rpm() {
        let header = rpm_header(&session.repository, package)?;
        let sha256 = rpm::digest_algorithm(&header) == rpm::DigestAlgorithm::Sha256;
        let files = rpm::files(&header).into_iter().filter(|_| sha256);
        let digest = |file: rpm::File| Some((twostage_image::path::from_bytes(&file.path), Expected::Content(file.digest.parse().ok()?)));
        return Ok(files.filter_map(digest).map(|(path, expected)| (path.trim_start_matches('/').to_string(), expected)).collect());
    }
    let sums = deb::md5sums(session.repository.pool().open_package(&package.sha256)?, &package.id.to_string())?;
    Ok(sums.into_iter().map(|(path, md5)| (twostage_image::path::from_bytes(&path), Expected::Md5(md5))).collect())
}
