//! A Dockerfile, built without a daemon: [`crate::execute::layered`] does it, on the store's layers.

use super::{Session, about, cache, images, shown};
use crate::dockerfile::config::{History, ImageConfig};
use crate::execute::layered::{self, Layers, Times};
use crate::{Build, Container, Engine, Network, Pending, Within};
use twostage_model::{Class, Error, Result, Sha256};

impl Session {
    pub(crate) async fn build(&self, build: Build<'_>, on_line: &mut (dyn FnMut(&str) + Send)) -> Result<String> {
        layered::build(self, build, on_line).await
    }
}

impl Layers for Session {
    fn engine(&self) -> Engine {
        Engine(Within::Embedded(self.clone()))
    }

    fn begin<'a>(&'a self, layers: &'a [Sha256], hostname: &'a str, network: Network) -> Pending<'a, Result<Container>> {
        Box::pin(async move { self.over(layers, hostname, network).await.map(Container::from) })
    }

    fn freeze<'a>(&'a self, container: &'a Container, times: Option<Times>) -> Pending<'a, Result<Sha256>> {
        Box::pin(async move {
            let what = || "cannot make a layer of a container".to_string();
            let container =
                container.embedded().ok_or_else(|| Error::new(Class::Engine, what()).because("it is in another engine".to_string()))?;
            container.freeze(times).await.map_err(|error| about(what(), error))
        })
    }

    fn cached<'a>(&'a self, key: &'a Sha256) -> Pending<'a, Result<Option<Sha256>>> {
        let key = *key;
        Box::pin(self.with(move |inner| cache::find(&inner.store, &inner.store.look()?, &key)))
    }

    fn keep<'a>(&'a self, key: &'a Sha256, layers: &'a [Sha256]) -> Pending<'a, Result<()>> {
        let (key, layers) = (*key, layers.to_vec());
        Box::pin(self.with(move |inner| cache::keep(&inner.store, &inner.store.change()?, &key, &layers)))
    }

    fn history<'a>(&'a self, image: &'a str) -> Pending<'a, Result<Vec<History>>> {
        let name = image.to_string();
        Box::pin(self.with(move |inner| {
            let found = images::get(&inner.store, &inner.store.look()?, &name)?;
            Ok(images::config(&found.config_json)?.history)
        }))
    }

    fn image<'a>(&'a self, config: &'a ImageConfig, tag: Option<&'a str>) -> Pending<'a, Result<String>> {
        let config = config.clone();
        Box::pin(async move {
            let names: Vec<String> = tag.map(images::new_name).transpose()?.into_iter().collect();
            let layers = config.rootfs.diff_ids.iter().map(|digest| digest.parse()).collect::<Result<Vec<Sha256>>>()?;
            let id = self.with(move |inner| images::put_known(&inner.store, &inner.store.change()?, &config, &layers, &names)).await?;
            Ok(shown(&id))
        })
    }
}
