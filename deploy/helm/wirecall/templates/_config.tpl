{{/*
The TOML of a service: (dict "root" $ "component" "capture"). What the chart knows comes first (addresses, topics,
ports), then the component's own `config`, which wins key by key. The services refuse keys that they do not know.
*/}}
{{- define "wirecall.config" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .component -}}
{{- /* librdkafka's settings are strings. Values of a chart are floats: without this a million would be 1e+06. */ -}}
{{- $properties := dict -}}
{{- range $key, $value := $values.kafka.properties -}}
{{- $whole := and (kindIs "float64" $value) (eq (float64 $value) (float64 (int64 $value))) -}}
{{- $_ := set $properties $key (ternary (int64 $value) $value $whole | toString) -}}
{{- end -}}
{{- if $values.kafka.tls.enabled -}}
{{- $_ := set $properties "security.protocol" (ternary "sasl_ssl" "ssl" (ne $values.kafka.sasl.mechanism "")) -}}
{{- if $values.kafka.tls.existingSecret -}}
{{- $_ := set $properties "ssl.ca.location" (printf "/etc/wirecall-kafka-tls/%s" $values.kafka.tls.caKey) -}}
{{- if $values.kafka.tls.clientCertificate -}}
{{- $_ := set $properties "ssl.certificate.location" (printf "/etc/wirecall-kafka-tls/%s" $values.kafka.tls.certificateKey) -}}
{{- $_ := set $properties "ssl.key.location" (printf "/etc/wirecall-kafka-tls/%s" $values.kafka.tls.privateKeyKey) -}}
{{- end -}}
{{- end -}}
{{- else if $values.kafka.sasl.mechanism -}}
{{- $_ := set $properties "security.protocol" "sasl_plaintext" -}}
{{- end -}}
{{- if $values.kafka.sasl.mechanism -}}
{{- $_ := set $properties "sasl.mechanism" $values.kafka.sasl.mechanism -}}
{{- end -}}
{{- $kafka := dict
  "bootstrap_servers" (required "kafka.bootstrapServers is needed: the brokers as host:port" $values.kafka.bootstrapServers)
  "topic_prefix" $values.kafka.topicPrefix
  "partitions" $values.kafka.partitions
  "replication_factor" $values.kafka.replicationFactor
  "create_topics" $values.kafka.createTopics
  "properties" $properties -}}
{{- if $values.registry.url -}}
{{- $_ := set $kafka "registry" (dict "url" $values.registry.url "auto_register" $values.registry.autoRegister) -}}
{{- end -}}
{{- $otlp := dict "interval_seconds" $values.telemetry.otlp.intervalSeconds -}}
{{- with $values.telemetry.otlp.endpoint }}{{- $_ := set $otlp "endpoint" . -}}{{ end -}}
{{- $known := dict
  "kafka" $kafka
  "health" (dict "listen" (printf "0.0.0.0:%d" (int $own.healthPort)))
  "telemetry" (dict "log" (dict "filter" $values.telemetry.logFilter "format" "json") "otlp" $otlp)
  "drain" (dict "deadline_seconds" (sub (int $own.terminationGracePeriodSeconds) 5)) -}}
{{- $service := include (printf "wirecall.config.%s" .component) . | fromYaml -}}
{{- mustMergeOverwrite $known $service (deepCopy $own.config) | toToml -}}
{{- end -}}

{{- define "wirecall.config.capture" -}}
source:
  interfaces: {{ toJson .root.Values.capture.interfaces }}
  promiscuous: {{ .root.Values.capture.promiscuous }}
{{- end -}}

{{- define "wirecall.config.dissector" -}}
kafka:
  group_id: {{ .root.Values.dissector.groupId }}
  static_membership: {{ .root.Values.dissector.staticMembership }}
{{- end -}}

{{- define "wirecall.config.enricher" -}}
kafka:
  group_id: {{ .root.Values.enricher.groupId }}
  static_membership: {{ .root.Values.enricher.staticMembership }}
{{- end -}}

{{- define "wirecall.config.watcher" -}}
role: watcher
{{- end -}}
