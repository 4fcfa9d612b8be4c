//! Converts between Spin's database values and Postgres's types as Spin does, for the types that this runner
//! supports. An unsupported type is an error that names it.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::bindings::spin::postgres::postgres::{Column, DbDataType, DbValue, Error, ParameterValue};

type Parameter = Box<dyn ToSql + Send + Sync>;

/// NULL of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Converts the parameters of a statement.
pub fn to_sql(values: Vec<ParameterValue>) -> Result<Vec<Parameter>, Error> {
    values.into_iter().map(parameter).collect()
}

fn bad(what: &str) -> Error {
    Error::BadParameter(what.to_owned())
}

fn parameter(value: ParameterValue) -> Result<Parameter, Error> {
    Ok(match value {
        ParameterValue::Boolean(v) => Box::new(v),
        ParameterValue::Int8(v) => Box::new(v),
        ParameterValue::Int16(v) => Box::new(v),
        ParameterValue::Int32(v) => Box::new(v),
        ParameterValue::Int64(v) => Box::new(v),
        ParameterValue::Floating32(v) => Box::new(v),
        ParameterValue::Floating64(v) => Box::new(v),
        ParameterValue::Str(v) => Box::new(v),
        ParameterValue::Binary(v) => Box::new(v),
        ParameterValue::Date(v) => Box::new(date(v)?),
        ParameterValue::Time((h, m, s, n)) => Box::new(time(h, m, s, n)?),
        ParameterValue::Datetime((y, mo, d, h, m, s, n)) => {
            Box::new(NaiveDateTime::new(date((y, mo, d))?, time(h, m, s, n)?))
        }
        ParameterValue::Timestamp(v) => Box::new(DateTime::from_timestamp(v, 0).ok_or_else(|| bad("timestamp"))?),
        ParameterValue::Uuid(v) => Box::new(Uuid::parse_str(&v).map_err(|_| bad("uuid"))?),
        ParameterValue::Jsonb(v) => {
            Box::new(serde_json::from_slice::<serde_json::Value>(&v).map_err(|_| bad("jsonb"))?)
        }
        ParameterValue::ArrayInt32(v) => Box::new(v),
        ParameterValue::ArrayInt64(v) => Box::new(v),
        ParameterValue::ArrayStr(v) => Box::new(v),
        ParameterValue::DbNull => Box::new(Null),
        ParameterValue::Decimal(_)
        | ParameterValue::RangeInt32(_)
        | ParameterValue::RangeInt64(_)
        | ParameterValue::RangeDecimal(_)
        | ParameterValue::ArrayDecimal(_)
        | ParameterValue::Interval(_) => {
            return Err(bad("this runner does not support decimals, ranges and intervals; use Spin for them"));
        }
    })
}

/// The type that is sent with a parameter, if types are sent. Without one, Postgres infers it.
pub fn parameter_type(value: &ParameterValue) -> Type {
    match value {
        ParameterValue::Boolean(_) => Type::BOOL,
        ParameterValue::Int16(_) => Type::INT2,
        ParameterValue::Int32(_) => Type::INT4,
        ParameterValue::Int64(_) => Type::INT8,
        ParameterValue::Floating32(_) => Type::FLOAT4,
        ParameterValue::Floating64(_) => Type::FLOAT8,
        ParameterValue::Str(_) => Type::TEXT,
        ParameterValue::Binary(_) => Type::BYTEA,
        ParameterValue::Uuid(_) => Type::UUID,
        ParameterValue::ArrayInt32(_) => Type::INT4_ARRAY,
        ParameterValue::ArrayInt64(_) => Type::INT8_ARRAY,
        ParameterValue::ArrayStr(_) => Type::TEXT_ARRAY,
        _ => Type::UNKNOWN,
    }
}

fn date((year, month, day): (i32, u8, u8)) -> Result<NaiveDate, Error> {
    NaiveDate::from_ymd_opt(year, month.into(), day.into()).ok_or_else(|| bad("date"))
}

fn time(hour: u8, minute: u8, second: u8, nano: u32) -> Result<NaiveTime, Error> {
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nano).ok_or_else(|| bad("time"))
}

/// The columns of a row.
pub fn columns(row: &Row) -> Vec<Column> {
    row.columns()
        .iter()
        .map(|column| Column { name: column.name().to_owned(), data_type: data_type(column.type_()) })
        .collect()
}

fn data_type(ty: &Type) -> DbDataType {
    match *ty {
        Type::BOOL => DbDataType::Boolean,
        Type::BYTEA => DbDataType::Binary,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        _ => DbDataType::Other(ty.name().to_owned()),
    }
}

/// The values of a row.
pub fn row(row: &Row) -> Result<Vec<DbValue>, Error> {
    (0..row.len()).map(|index| value(row, index)).collect()
}

fn value(row: &Row, index: usize) -> Result<DbValue, Error> {
    let Some(column) = row.columns().get(index) else {
        return Ok(DbValue::DbNull);
    };
    match *column.type_() {
        Type::BOOL => read(row, index, DbValue::Boolean),
        Type::BYTEA => read(row, index, DbValue::Binary),
        Type::FLOAT4 => read(row, index, DbValue::Floating32),
        Type::FLOAT8 => read(row, index, DbValue::Floating64),
        Type::INT2 => read(row, index, DbValue::Int16),
        Type::INT4 => read(row, index, DbValue::Int32),
        Type::INT8 => read(row, index, DbValue::Int64),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => read(row, index, DbValue::Str),
        Type::TIMESTAMP => read(row, index, datetime),
        Type::TIMESTAMPTZ => read(row, index, |v: DateTime<Utc>| datetime(v.naive_utc())),
        Type::DATE => read(row, index, |v: NaiveDate| DbValue::Date((v.year(), small(v.month()), small(v.day())))),
        Type::TIME => read(row, index, |v: NaiveTime| {
            let [h, m, s] = [v.hour(), v.minute(), v.second()].map(small);
            DbValue::Time((h, m, s, v.nanosecond()))
        }),
        Type::UUID => read(row, index, |v: Uuid| DbValue::Uuid(v.to_string())),
        Type::JSONB => read(row, index, |v: serde_json::Value| DbValue::Jsonb(v.to_string().into_bytes())),
        Type::INT4_ARRAY => read(row, index, DbValue::ArrayInt32),
        Type::INT8_ARRAY => read(row, index, DbValue::ArrayInt64),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => read(row, index, DbValue::ArrayStr),
        ref other => Err(Error::ValueConversionFailed(format!(
            "this runner does not support the type {other}; use Spin, or cast the value to text"
        ))),
    }
}

fn read<'r, T: FromSql<'r>>(row: &'r Row, index: usize, convert: impl FnOnce(T) -> DbValue) -> Result<DbValue, Error> {
    match row.try_get::<_, Option<T>>(index) {
        Ok(value) => Ok(value.map_or(DbValue::DbNull, convert)),
        Err(e) => Err(Error::ValueConversionFailed(e.to_string())),
    }
}

fn datetime(v: NaiveDateTime) -> DbValue {
    let [month, day, h, m, s] = [v.month(), v.day(), v.hour(), v.minute(), v.second()].map(small);
    DbValue::Datetime((v.year(), month, day, h, m, s, v.nanosecond()))
}

/// Every part of a date or time but the year and nanoseconds is below 256.
fn small(part: u32) -> u8 {
    u8::try_from(part).unwrap_or(u8::MAX)
}
