"""Sensors, thresholds, analyzers, and the system that starts, runs and stops them."""

from f1buf import READING, RingBuffer  # noqa: F401  RingBuffer: where compiled modules are missing, f1buf says what to do
from f1buf.telemetry.alerts import Alert
from f1buf.telemetry.analyzers import Analyzer
from f1buf.telemetry.channels import (
    ENGINE_TEMP,
    FUEL_LEVEL,
    G_FORCE,
    SPEED,
    TIRE_PRESSURE,
    Channel,
    TelemetryData,
    channel_by_number,
    channels_by_name,
)
from f1buf.telemetry.consumers import Consumer
from f1buf.telemetry.errors import RecorderError, SharingError, TelemetryError, ThresholdError
from f1buf.telemetry.recorder import Recorder
from f1buf.telemetry.sensors import (
    EngineTemperatureSensor,
    FuelLevelSensor,
    GForceSensor,
    Sensor,
    SimulatedSensor,
    SpeedSensor,
    TirePressureSensor,
    make_sensors,
    readings_from_block,
)
from f1buf.telemetry.sharing import Sharer
from f1buf.telemetry.sources.shared import SharedSource
from f1buf.telemetry.system import F1TelemetrySystem, Summary
from f1buf.telemetry.thresholds import PROFILES, Threshold, ThresholdTable, Tracker, load_thresholds

__all__ = [
    "ENGINE_TEMP",
    "FUEL_LEVEL",
    "G_FORCE",
    "PROFILES",
    "READING",
    "SPEED",
    "TIRE_PRESSURE",
    "Alert",
    "Analyzer",
    "Channel",
    "Consumer",
    "EngineTemperatureSensor",
    "F1TelemetrySystem",
    "FuelLevelSensor",
    "GForceSensor",
    "Recorder",
    "RecorderError",
    "Sensor",
    "SharedSource",
    "Sharer",
    "SharingError",
    "SimulatedSensor",
    "SpeedSensor",
    "Summary",
    "TelemetryData",
    "TelemetryError",
    "Threshold",
    "ThresholdError",
    "ThresholdTable",
    "TirePressureSensor",
    "Tracker",
    "channel_by_number",
    "channels_by_name",
    "load_thresholds",
    "make_sensors",
    "readings_from_block",
]
