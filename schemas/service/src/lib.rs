//! What every Wirecall service needs: configuration, telemetry, health and drain.
