//! All that is known of one package.

use crate::catalog::Rendered;
use crate::{Item, Kind, PoolFile, PoolPackage, Repository};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use twostage_model::{Error, Result, Sha256, SnapshotId};
use twostage_package::control::Control;
use twostage_package::{deb, rpm};

/// All that is known of a package. Its serialised field names are stable.
#[derive(Debug, Serialize)]
pub struct About {
    /// What it is called and where it is.
    #[serde(flatten)]
    pub item: Item,
    /// The name of its source package.
    pub source: String,
    /// When it was made, in seconds since 1970; 0 where it does not say.
    pub date: i64,
    /// Its control fields, or what its header says, in their order.
    pub fields: Vec<(String, String)>,
    /// Its files without folders; of a source package those that its `.dsc` names.
    pub files: Option<u64>,
    /// The other files of a source package.
    pub source_files: Vec<PoolFile>,
    /// Who vouches for it.
    pub signature: Signature,
    /// The snapshots that have it.
    pub in_snapshots: Vec<SnapshotId>,
    /// Those of them that are pinned, and why.
    pub pinned: BTreeMap<SnapshotId, String>,
    /// What whoever published it was told.
    pub notes: Vec<String>,
    /// Why it cannot be served, if it cannot.
    pub problem: Option<String>,
}

/// Who vouches for a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Signature {
    /// The signed index that names its digest, as for every deb.
    Index,
    /// This rpm came unsigned; it is served with a signature of the repository's key.
    Ours {
        /// Of that key; none where nothing was signed yet.
        fingerprint: Option<String>,
    },
    /// This rpm came signed, and is served as it came.
    Theirs {
        /// Fingerprints of those who signed it, as far as their keys are known and the signature was checked; else the key's
        /// id as the package says it.
        signers: BTreeSet<String>,
        /// Whether it was checked.
        checked: bool,
    },
}

/// The rpm's tags that are shown, with rpm's own words for them.
const TAGS: [(&str, u32); 12] = [
    ("Summary", rpm::tag::SUMMARY),
    ("License", rpm::tag::LICENSE),
    ("URL", rpm::tag::URL),
    ("Group", rpm::tag::GROUP),
    ("Vendor", rpm::tag::VENDOR),
    ("Packager", rpm::tag::PACKAGER),
    ("Distribution", rpm::tag::DISTRIBUTION),
    ("Build Host", rpm::tag::BUILDHOST),
    ("Source RPM", rpm::tag::SOURCERPM),
    ("Bug URL", rpm::tag::BUGURL),
    ("VCS", rpm::tag::VCS),
    ("Description", rpm::tag::DESCRIPTION),
];

impl Repository {
    /// All that is known of a package that was listed; its files are read, to count them and to see whether they are whole.
    ///
    /// # Errors
    /// The machine says no. What is damaged is no error here but [`About::problem`].
    pub fn about(&self, item: &Item) -> Result<About> {
        let mut about = About {
            item: item.clone(),
            source: String::new(),
            date: 0,
            fields: Vec::new(),
            files: None,
            source_files: Vec::new(),
            signature: Signature::Index,
            in_snapshots: Vec::new(),
            pinned: BTreeMap::new(),
            notes: Vec::new(),
            problem: None,
        };
        let mut snapshots = BTreeSet::new();
        self.each_listed(|id, digest, _| {
            if digest == item.sha256 {
                snapshots.insert(*id);
            }
        })?;
        // (Of a pin that is damaged, `fsck` tells.)
        let pins = self.pins.all().unwrap_or_default().into_iter().filter(|(id, _)| snapshots.contains(id));
        about.pinned = pins.map(|(id, pin)| (id, pin.shown())).collect();
        about.in_snapshots = snapshots.into_iter().collect();
        let package = match self.pool.package_or_described(&item.sha256) {
            Ok(package) => package,
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => {
                about.problem = Some(in_full(&error));
                return Ok(about);
            }
        };
        about.source.clone_from(&package.source);
        about.date = package.date;
        about.source_files.clone_from(&package.files);
        about.notes.clone_from(&package.notes);
        if let Err(error) = self.pool.verify(&package) {
            if error.is_unread() {
                return Err(error);
            }
            about.problem = Some(in_full(&error));
        }
        if package.kind.is_rpm() {
            about.signature = self.signature_of(&package)?;
        }
        match self.fields_of(&package) {
            Ok(fields) => about.fields = fields,
            Err(error) if error.is_unread() => return Err(error),
            Err(error) => drop(about.problem.get_or_insert(in_full(&error))),
        }
        if about.problem.is_none() {
            about.files = self.count_files(&item.sha256)?;
        }
        Ok(about)
    }

    /// How many files a package brings, folders not counted; of a source package, how many its `.dsc` names. Nothing for what
    /// is no package.
    pub(crate) fn count_files(&self, digest: &Sha256) -> Result<Option<u64>> {
        let package = self.pool.package_or_described(digest)?;
        Ok(match package.kind {
            Kind::Extra(_) => None,
            Kind::Source => Some(package.files.len() as u64),
            Kind::Deb | Kind::Udeb => {
                let file = BufReader::new(self.pool.open_verified(&package, digest)?);
                Some(deb::count_files(file, &package.file_name())?)
            }
            Kind::Rpm | Kind::SourceRpm => {
                let (_, header) = self.signing.head(&package)?;
                let files = rpm::files(&rpm::Header::parse(&header)?);
                Some(files.iter().filter(|file| file.mode & FILE_TYPE != FOLDER).count() as u64)
            }
        })
    }

    fn fields_of(&self, package: &PoolPackage) -> Result<Vec<(String, String)>> {
        if !package.kind.is_rpm() {
            if package.control.is_empty() {
                return Ok(Vec::new());
            }
            let control = Control::parse(&package.control)?;
            return Ok(control.fields().map(|(name, value)| (name.to_string(), value.to_string())).collect());
        }
        let (_, header) = self.signing.head(package)?;
        let header = rpm::Header::parse(&header)?;
        let mut fields: Vec<(String, String)> =
            TAGS.iter().filter_map(|(name, tag)| Some((name.to_string(), header.text(*tag).filter(|text| !text.is_empty())?))).collect();
        let description = fields.iter().position(|(name, _)| name == "Description").map(|at| fields.remove(at));
        for kind in rpm::Kind::ALL {
            let all: Vec<String> = rpm::dependencies(&header, kind).iter().map(relation).collect();
            if !all.is_empty() {
                fields.push((format!("{kind:?}"), all.join(", ")));
            }
        }
        fields.extend(description);
        Ok(fields)
    }

    fn signature_of(&self, package: &PoolPackage) -> Result<Signature> {
        let Some(signer) = package.rpm.as_ref().and_then(|rpm| rpm.signer.clone()) else {
            return Ok(Signature::Ours { fingerprint: self.signing.signer()? });
        };
        let entry = self.pool.catalog.get(&package.sha256)?;
        // What is in a channel was checked when it was published.
        let checked = entry.map(|entry| self.pool.catalog.rendered(&[&entry], "")).transpose()?.and_then(|mut all| all.pop().flatten());
        let checked = checked.map(|rendered: std::sync::Arc<Rendered>| rendered.signers.clone()).filter(|signers| !signers.is_empty());
        Ok(match checked {
            Some(signers) => Signature::Theirs { signers, checked: true },
            None => Signature::Theirs { signers: BTreeSet::from([signer]), checked: false },
        })
    }
}

/// The type in `st_mode`, and that of a folder (inode(7)).
const FILE_TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;

fn in_full(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}

/// A dependency as `rpm -q --requires` writes it.
fn relation(dependency: &rpm::Dependency) -> String {
    let compared = [(2, '<'), (4, '>'), (8, '=')].iter().filter(|(bit, _)| dependency.flags & bit != 0);
    let sign: String = compared.map(|(_, sign)| *sign).collect();
    if sign.is_empty() || dependency.version.is_empty() {
        return dependency.name.clone();
    }
    let epoch = dependency.epoch.as_ref().map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let release = if dependency.release.is_empty() { String::new() } else { format!("-{}", dependency.release) };
    format!("{} {sign} {epoch}{}{release}", dependency.name, dependency.version)
}
