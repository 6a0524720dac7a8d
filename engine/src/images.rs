//! Images of an engine as data: read out of it, and written into it.

use crate::stream::pipe;
use crate::{Engine, Pending, Within, blocking};
use std::any::Any;
use std::io::Write as _;
use twostage_image::{NewImage, Store, Written};
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// An image of an engine that can be read again and again, whatever happens to it there.
#[derive(Debug)]
pub struct Saved {
    /// What is in it.
    pub store: Store,
    /// Where it is read from; that goes with this value.
    pub place: SavedAt,
}

/// A temporary place of an image's files.
#[derive(Debug)]
pub struct SavedAt(#[expect(dead_code, reason = "it is removed when this is dropped")] Box<dyn Any + Send + Sync>);

impl SavedAt {
    pub(crate) fn new(place: impl Send + Sync + 'static) -> SavedAt {
        SavedAt(Box::new(place))
    }
}

/// Writes one image.
pub type Write<'a> = &'a mut dyn FnMut(&mut NewImage<'_>) -> Result<Written>;

impl Engine {
    /// Copies an image into a temporary archive and opens that; of what keeps its images as files, the files.
    ///
    /// # Errors
    /// The engine has no such image, there is no room for it, or it is not what it claims to be.
    pub fn open<'a>(&'a self, reference: &'a str) -> Pending<'a, Result<Saved>> {
        if let Within::Embedded(session) = &self.0 {
            return Box::pin(session.open_image(reference));
        }
        Box::pin(async move {
            let mut stream = self.save(reference).await?;
            blocking(move || {
                let fail = || "cannot keep the engine's image in a temporary file".to_string();
                let mut file = tempfile::Builder::new().prefix("twostage-image-").tempfile().or_fail(Class::System, fail)?;
                std::io::copy(&mut stream, &mut file).and_then(|_| file.flush()).or_fail(Class::System, fail)?;
                let spool = file.into_temp_path();
                Ok(Saved { store: Store::open(&spool, None)?, place: SavedAt::new(spool) })
            })
            .await
        })
    }

    /// Runs `make`, which makes one image and hands it to what it is given, while the engine takes it in as `name`.
    /// `with_kept`: the layers below the new one, too; an engine that has them may not need them.
    ///
    /// # Errors
    /// What `make` gives, or what the engine says against the image.
    pub fn write<T: Send + 'static>(
        &self,
        name: Option<String>,
        with_kept: bool,
        make: impl FnOnce(Write<'_>) -> Result<T> + Send + 'static,
    ) -> Pending<'_, Result<T>> {
        if let Within::Embedded(session) = &self.0 {
            return Box::pin(session.write_image(name, make));
        }
        let (writer, stream) = pipe();
        let mut writer = Some(writer);
        let making = blocking(move || {
            make(&mut |new| {
                let mut writer = writer.take().ok_or_else(|| Error::new(Class::System, "an image is written once"))?;
                new.name.clone_from(&name);
                let written = new.load(&mut writer, with_kept)?;
                writer.finish().or_fail(Class::Engine, || "cannot hand the image to the engine".into())?;
                Ok(written)
            })
        });
        Box::pin(async move {
            match tokio::join!(making, self.load(stream)) {
                (Ok(made), Ok(_)) => Ok(made),
                // When the engine stops reading, it says why; when the image ends early, we do.
                (Err(error), Err(refusal)) if error.class() == Class::Engine => Err(refusal),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            }
        })
    }
}
