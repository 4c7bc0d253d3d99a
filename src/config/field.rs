//! How a typed field takes an option's value, and gives it back.

use std::time::Duration;

use super::choice::{CheckpointMode, ClaimMode, Fencing, Retention, StorageKind};
use super::option::ConfigOption;
use super::{FlinkDuration, MemorySize, Value};
use crate::path::FlinkPath;

/// A field of [`Settings`](super::Settings).
///
/// A value of another type than the field's changes nothing: the catalogue and the settings disagree then, which a test
/// would have found.
pub(super) trait Field {
    fn set(&mut self, value: Value);
    /// `None` when nothing is set.
    fn get(&self) -> Option<Value>;
}

/// The field with an option's default.
pub(super) fn initial<F: Field + Default>(option: &ConfigOption) -> F {
    let mut field = F::default();
    if let Some(value) = option.default_value() {
        field.set(value);
    }
    field
}

macro_rules! field {
    ($type:ty, $($pattern:pat => $set:expr),+; $self:ident => $get:expr) => {
        impl Field for $type {
            fn set(&mut self, value: Value) {
                match value {
                    $($pattern => *self = $set,)+
                    _ => {}
                }
            }

            fn get(&self) -> Option<Value> {
                let $self = self;
                $get
            }
        }
    };
}

field!(bool, Value::Bool(value) => value; it => Some(Value::Bool(*it)));
// What is too large or too small for the field, the option's range refuses.
field!(u32, Value::Int(value) => value.clamp(0, u32::MAX.into()) as u32; it => Some(Value::Int((*it).into())));
field!(i64, Value::Int(value) => value; it => Some(Value::Int(*it)));
field!(f64, Value::Float(value) => value; it => Some(Value::Float(*it)));
field!(
    MemorySize,
    Value::Memory(value) => value,
    Value::Int(value) => Self(value.max(0).unsigned_abs());
    it => Some(Value::Memory(*it))
);
field!(Duration, Value::Duration(value) => value.0; it => Some(Value::Duration(FlinkDuration(*it))));
field!(String, Value::Text(value) => value; it => Some(Value::Text(it.clone())));
// Optional only: there is no path that stands for none.
impl Field for Option<FlinkPath> {
    fn set(&mut self, value: Value) {
        if let Value::Path(path) = value {
            *self = Some(path);
        }
    }

    fn get(&self) -> Option<Value> {
        self.clone().map(Value::Path)
    }
}

field!(
    Vec<String>,
    Value::Paths(value) => value;
    it => (!it.is_empty()).then(|| Value::Paths(it.clone()))
);
field!(StorageKind, Value::Text(name) => Self::named(&name).unwrap_or_default(); it => it.name().and_then(named));
field!(CheckpointMode, Value::Text(name) => Self::named(&name).unwrap_or_default(); it => named(it.name()));
field!(Fencing, Value::Text(name) => Self::named(&name).unwrap_or_default(); it => named(it.name()));
field!(Retention, Value::Text(name) => Self::named(&name).unwrap_or_default(); it => named(it.name()));
field!(ClaimMode, Value::Text(name) => Self::named(&name).unwrap_or_default(); it => named(it.name()));

fn named(name: &str) -> Option<Value> {
    Some(Value::Text(name.to_string()))
}

impl<F: Field + Default> Field for Option<F> {
    fn set(&mut self, value: Value) {
        let mut field = F::default();
        field.set(value);
        *self = Some(field);
    }

    fn get(&self) -> Option<Value> {
        self.as_ref().and_then(Field::get)
    }
}
