//! Images: inspect, pull, import, load, save, tag, remove.

use super::fault::{fault, is_missing, messages, pull_hint, reason};
use super::{Session, debian_architecture};
use crate::reference::Reference;
use crate::stream::{ByteStream, FirstError, TarReader, read_tar};
use crate::{ImageInfo, Kind};
use bollard::errors::Error as ApiError;
use bollard::query_parameters::{CreateImageOptions, ImportImageOptions, ListImagesOptions, RemoveImageOptions, TagImageOptions};
use futures_util::StreamExt;
use std::time::Duration;
use twostage_model::{Class, Error, Result, Sha256, Sink};

impl Session {
    pub(crate) async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let what = || format!("cannot inspect image {reference}");
        let found = match self.quick().inspect_image(Reference::check(reference)?).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(fault(what(), error)),
        };
        let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
        let diff_ids = layers
            .iter()
            .map(|layer| layer.parse())
            .collect::<Result<Vec<Sha256>>>()
            .map_err(|error| Error::new(Class::Engine, what()).because(error))?;
        let config = found.config.unwrap_or_default();
        Ok(Some(ImageInfo {
            id: found.id.unwrap_or_default(),
            diff_ids,
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            architecture: debian_architecture(&found.architecture.unwrap_or_default(), found.variant.as_deref()),
            size: found.size.unwrap_or_default(),
            repo_digests: found.repo_digests.unwrap_or_default(),
            tags: found.repo_tags.unwrap_or_default().iter().map(|tag| self.dialect().shown(tag).to_string()).collect(),
            env: config.env.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            workdir: config.working_dir.unwrap_or_default(),
        }))
    }

    /// All images that have a name.
    pub(crate) async fn images(&self) -> Result<Vec<ImageInfo>> {
        let what = || "cannot list the images".to_string();
        let listed = self.quick().list_images(None::<ListImagesOptions>).await.map_err(|error| fault(what(), error))?;
        let mut images = Vec::new();
        for image in listed.iter().filter(|image| image.repo_tags.iter().any(|tag| !tag.starts_with("<none>"))) {
            // One that was removed since is no longer asked for.
            images.extend(self.image(&image.id).await?);
        }
        Ok(images)
    }

    /// The remark of an image's newest step.
    pub(crate) async fn remark(&self, reference: &str) -> Result<Option<String>> {
        match self.quick().image_history(Reference::check(reference)?).await {
            Ok(steps) => Ok(steps.into_iter().next().map(|step| step.comment)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(format!("cannot read the history of {reference}"), error)),
        }
    }

    pub(crate) async fn pull(&self, reference: &str, sink: &Sink, subject: &str) -> Result<()> {
        let parts = Reference::parse(reference)?;
        let options = CreateImageOptions {
            from_image: Some(parts.repository.clone()),
            tag: Some(parts.tag_or_digest().to_string()),
            ..Default::default()
        };
        sink.started(subject, &format!("pulling {reference}"));
        let mut progress = messages(Box::pin(self.patient().create_image(Some(options), None, None)));
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| {
                let hint = pull_hint(&reason(&error));
                fault(format!("cannot pull {reference}"), error).hint(hint)
            })?;
            // A layer that moves sends a count every few milliseconds; only its changes of state are told.
            let counting = step.progress_detail.is_some_and(|detail| detail.current.is_some());
            if let (Some(status), false) = (step.status, counting) {
                let line = step.id.map_or(status.clone(), |id| format!("{id}: {status}"));
                sink.log(subject, &line);
            }
        }
        Ok(())
    }

    pub(crate) async fn import(&self, tar: ByteStream, reference: &str, changes: &[String]) -> Result<String> {
        let what = || format!("cannot import a root file system as {reference}");
        let name = Reference::parse(reference)?;
        let whole = format!("{}:{}", name.repository, name.writable_tag()?);
        if self.dialect().kind() == Kind::Podman && changes.len() > 1 {
            return Err(Error::new(Class::Engine, what()).because("Podman's import takes one instruction".to_string()));
        }
        let Some(temporary) = self.dialect().import_name(&name.repository) else {
            return self.import_as(tar, &whole, changes, &what()).await;
        };
        match self.import_as(tar, &temporary, changes, &what()).await {
            Ok(id) => {
                self.tag(&id, reference).await?;
                self.remove_image(&temporary).await?;
                Ok(id)
            }
            Err(error) => {
                self.remove_when_it_comes(&temporary).await;
                Err(error)
            }
        }
    }

    /// Removes the image that an import which broke off may still become; nothing tells when.
    async fn remove_when_it_comes(&self, name: &str) {
        for _ in 0..20 {
            if matches!(self.image(name).await, Ok(Some(_))) {
                // What is left has a name that nobody asks for.
                let _ = self.remove_image(name).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn import_as(&self, tar: ByteStream, name: &str, changes: &[String], what: &str) -> Result<String> {
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            // The whole name in `repo` is understood by every engine; not all read `tag` here.
            repo: Some(name.into()),
            changes: changes.to_vec(),
            ..Default::default()
        };
        let source = FirstError::default();
        let body = bollard::body_try_stream(source.watch(tar));
        let mut progress = messages(Box::pin(self.patient().create_image(Some(options), Some(body), None)));
        let mut id = None;
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| sent(what.to_string(), error, &source))?;
            id = step.status.filter(|status| status.starts_with("sha256:")).or(id);
        }
        match (source.take(), id) {
            (Some(broken), _) => Err(Error::new(Class::System, what).because(broken)),
            (None, Some(id)) => Ok(id),
            (None, None) => Err(Error::new(Class::Engine, what).because("the engine named no image".to_string())),
        }
    }

    pub(crate) async fn load(&self, archive: ByteStream) -> Result<Vec<String>> {
        let what = "cannot load an image archive";
        let source = FirstError::default();
        let options = ImportImageOptions { quiet: true, ..Default::default() };
        let mut progress = messages(Box::pin(self.patient().import_image_stream(options, source.watch(archive), None)));
        let mut names = Vec::new();
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| sent(what.into(), error, &source))?;
            for line in step.stream.iter().flat_map(|text| text.lines()) {
                let name = ["Loaded image: ", "Loaded image ID: "].iter().find_map(|mark| line.strip_prefix(mark));
                names.extend(name.map(|name| self.dialect().shown(name).to_string()));
            }
        }
        match source.take() {
            Some(broken) => Err(Error::new(Class::System, what).because(broken)),
            None if names.is_empty() => Err(Error::new(Class::Engine, what)
                .because("the engine found no image in it".to_string())
                .hint("Docker takes docker-archive files; an OCI layout needs a manifest.json beside its index.json")),
            None => Ok(names),
        }
    }

    pub(crate) async fn save(&self, reference: &str) -> Result<TarReader> {
        let archive = self.patient().export_image(Reference::check(reference)?);
        read_tar(Box::pin(archive)).await.map_err(|error| fault(format!("cannot save image {reference}"), error))
    }

    pub(crate) async fn tag(&self, image_id: &str, reference: &str) -> Result<()> {
        let name = Reference::parse(reference)?;
        let options = TagImageOptions { repo: Some(name.repository.clone()), tag: Some(name.writable_tag()?.to_string()) };
        let tagged = self.quick().tag_image(Reference::check(image_id)?, Some(options)).await;
        tagged.map_err(|error| fault(format!("cannot tag {image_id} as {reference}"), error))
    }

    pub(crate) async fn remove_image(&self, reference: &str) -> Result<()> {
        let options = RemoveImageOptions { force: true, ..Default::default() };
        match self.patient().remove_image(Reference::check(reference)?, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(fault(format!("cannot remove image {reference}"), error)),
        }
    }
}

/// An error while something was sent: when the source broke, that is the reason.
fn sent(what: String, error: ApiError, source: &FirstError) -> Error {
    match source.take() {
        Some(broken) => Error::new(Class::System, what).because(broken),
        None => fault(what, error),
    }
}
