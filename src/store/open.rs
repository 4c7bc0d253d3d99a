//! Which store a scheme means, and how it is opened.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use super::FlinkPath;
use super::local::LocalDisk;
use super::stores::OpenStore;
use super::uploads::Uploads;
use crate::error::{Error, ErrorKind, Result};

/// The stores that there are, though not in every build.
pub(super) enum Kind {
    Local,
    Memory,
    S3,
    Google,
    Azure,
    Http,
}

impl Kind {
    pub(super) fn of(path: &FlinkPath) -> Result<Self> {
        Ok(match path.scheme().to_ascii_lowercase().as_str() {
            "file" if matches!(path.authority(), "" | "localhost") => Self::Local,
            "file" => {
                let message = format!("{path} names a host: a local path is file:/... with one slash or three");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            "memory" => Self::Memory,
            "s3" | "s3a" | "s3p" => Self::S3,
            "gs" => Self::Google,
            "abfs" | "abfss" | "wasb" | "wasbs" | "az" => Self::Azure,
            "http" | "https" => Self::Http,
            other => {
                let message = format!(
                    "no store for the scheme '{other}' of {path}: known are file, memory, s3, s3a, s3p, gs, abfs, \
                     abfss, wasb, wasbs, az, http, https"
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        })
    }
}

/// Opens the store of `path`, with settings from the environment. No request is made.
pub(super) fn open(path: &FlinkPath) -> Result<OpenStore> {
    let objects = match Kind::of(path)? {
        Kind::Local => return Ok(local()),
        Kind::Memory => {
            return Ok(OpenStore { objects: Arc::new(InMemory::new()), disk: None, uploads: Uploads::Never });
        }
        Kind::S3 => return s3(path),
        Kind::Google => google(path)?,
        Kind::Azure => azure(path)?,
        Kind::Http => http(path)?,
    };
    Ok(OpenStore { objects, disk: None, uploads: Uploads::Unknown })
}

fn local() -> OpenStore {
    // Without fsync a file that was reported as durable could be gone after a power cut.
    let objects = Arc::new(LocalFileSystem::new().with_fsync(true));
    OpenStore { objects, disk: Some(LocalDisk::default()), uploads: Uploads::Never }
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "http"))]
fn opened<S>(path: &FlinkPath, store: object_store::Result<S>) -> Result<Arc<S>> {
    let store = store.map_err(|e| {
        let cause = super::cause::Cause::of(&e);
        let message = format!("opening the store of {path}: {}", cause.line());
        Error::new(ErrorKind::Invalid, message).with_source(cause)
    })?;
    Ok(Arc::new(store))
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp", feature = "http"))]
fn authority<'a>(path: &'a FlinkPath, what: &str) -> Result<&'a str> {
    match path.authority() {
        "" => Err(Error::new(ErrorKind::Invalid, format!("{path} names no {what}"))),
        authority => Ok(authority),
    }
}

#[cfg(not(all(feature = "aws", feature = "azure", feature = "gcp", feature = "http")))]
fn not_built(path: &FlinkPath, feature: &str) -> Error {
    let message = format!("{path}: this build has no such store: build with the cargo feature '{feature}'");
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(feature = "aws")]
fn s3(path: &FlinkPath) -> Result<OpenStore> {
    let bucket = authority(path, "bucket")?;
    let builder = object_store::aws::AmazonS3Builder::from_env().with_url(format!("s3://{bucket}"));
    let objects = opened(path, builder.build())?;
    let uploads = opened(path, super::uploads_s3::S3Uploads::new(objects.clone()))?;
    Ok(OpenStore { objects, disk: None, uploads: Uploads::Asked(uploads) })
}

#[cfg(not(feature = "aws"))]
fn s3(path: &FlinkPath) -> Result<OpenStore> {
    Err(not_built(path, "aws"))
}

#[cfg(feature = "gcp")]
fn google(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    let bucket = authority(path, "bucket")?;
    let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env();
    Ok(opened(path, builder.with_url(format!("gs://{bucket}")).build())?)
}

#[cfg(not(feature = "gcp"))]
fn google(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    Err(not_built(path, "gcp"))
}

#[cfg(feature = "azure")]
fn azure(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    let container = authority(path, "container")?;
    // The one scheme that the builder knows in all its forms, with an account and without.
    let builder = object_store::azure::MicrosoftAzureBuilder::from_env().with_url(format!("abfss://{container}"));
    Ok(opened(path, builder.build())?)
}

#[cfg(not(feature = "azure"))]
fn azure(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    Err(not_built(path, "azure"))
}

#[cfg(feature = "http")]
fn http(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    let host = authority(path, "host")?;
    // A user who writes http: means it.
    let options = object_store::ClientOptions::new().with_allow_http(true);
    let url = format!("{}://{host}", path.scheme().to_ascii_lowercase());
    Ok(opened(path, object_store::http::HttpBuilder::new().with_url(url).with_client_options(options).build())?)
}

#[cfg(not(feature = "http"))]
fn http(path: &FlinkPath) -> Result<Arc<dyn ObjectStore>> {
    Err(not_built(path, "http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_files_are_synced() {
        let store = open(&FlinkPath::parse("/").unwrap()).unwrap();
        let text = format!("{:?}", store.objects);
        assert!(text.contains("fsync: true"), "{text}");
    }

    #[cfg(all(feature = "aws", feature = "azure", feature = "http"))]
    #[test]
    fn schemes_are_known() {
        for text in [
            "s3://bucket/x",
            "s3a://bucket/x",
            "s3p://bucket/x",
            "abfss://container@account.dfs.core.windows.net/x",
            "wasbs://container@account.blob.core.windows.net/x",
            "wasb://container@account.blob.core.windows.net/x",
            "http://host:8080/x",
            "https://host/x",
        ] {
            open(&FlinkPath::parse(text).unwrap()).map(drop).unwrap();
        }
        let error = open(&FlinkPath::parse("abfs://container@account.example.org/x").unwrap()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
