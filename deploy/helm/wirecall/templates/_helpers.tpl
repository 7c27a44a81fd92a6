{{/* Name of the chart, or what replaces it. */}}
{{- define "wirecall.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name that every object starts with. 40 characters leave room for "-dissector" and the hashes that controllers add. */}}
{{- define "wirecall.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "wirecall.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "wirecall.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of a component: (dict "root" $ "component" "capture"). They may never change. */}}
{{- define "wirecall.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wirecall.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object: (dict "root" $ "component" "capture"). */}}
{{- define "wirecall.labels" -}}
{{ include "wirecall.selectorLabels" . }}
app.kubernetes.io/part-of: wirecall
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name of a component's objects. */}}
{{- define "wirecall.componentName" -}}
{{ include "wirecall.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* Name of a component's service account. */}}
{{- define "wirecall.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- default (include "wirecall.componentName" .) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* Image of a service: (dict "root" $ "service" "capture"). A digest wins over a tag. */}}
{{- define "wirecall.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := default $image.registry .root.Values.global.imageRegistry -}}
{{- $path := printf "%s-%s" $image.repository .service -}}
{{- if $registry }}{{ $path = printf "%s/%s" $registry $path }}{{ end -}}
{{- $digest := index $image.digests .service -}}
{{- if $digest -}}
{{ $path }}@{{ $digest }}
{{- else -}}
{{ $path }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* Whether an object of an optional API is rendered: (list $ <true|false|"auto"> "group/version/Kind"). */}}
{{- define "wirecall.wanted" -}}
{{- $root := index . 0 -}}{{- $switch := index . 1 | toString -}}{{- $api := index . 2 -}}
{{- if or (eq $switch "true") (and (eq $switch "auto") ($root.Capabilities.APIVersions.Has $api)) -}}yes{{- end -}}
{{- end -}}

{{/* Full name of a topic: (list $ "segments"). */}}
{{- define "wirecall.topic" -}}
{{ (index . 0).Values.kafka.topicPrefix }}{{ index . 1 }}
{{- end -}}

{{/* Environment that carries what differs between pods, and the credentials: (dict "root" $ "service" "dissector").
Names of variables may have dots in Kubernetes, as librdkafka's settings do. */}}
{{- define "wirecall.environment" -}}
{{- $prefix := printf "WIRECALL_%s__" (upper .service) -}}
{{- $values := .root.Values -}}
{{- with $values.kafka.credentials.existingSecret }}
{{- range $property, $key := $values.kafka.credentials.properties }}
- name: {{ $prefix }}KAFKA__PROPERTIES__{{ $property }}
  valueFrom:
    secretKeyRef:
      name: {{ $values.kafka.credentials.existingSecret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- if and $values.registry.url $values.registry.credentials.existingSecret }}
- name: {{ $prefix }}KAFKA__REGISTRY__USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ $values.registry.credentials.existingSecret }}
      key: {{ $values.registry.credentials.usernameKey }}
- name: {{ $prefix }}KAFKA__REGISTRY__PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $values.registry.credentials.existingSecret }}
      key: {{ $values.registry.credentials.passwordKey }}
{{- end }}
{{- end -}}

{{/* Mounts of every service. */}}
{{- define "wirecall.volumeMounts" -}}
- name: config
  mountPath: /etc/wirecall
  readOnly: true
{{- if .root.Values.kafka.tls.existingSecret }}
- name: kafka-tls
  mountPath: /etc/wirecall-kafka-tls
  readOnly: true
{{- end }}
{{- with (index .root.Values .component).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Volumes of every service. */}}
{{- define "wirecall.volumes" -}}
- name: config
  configMap:
    name: {{ include "wirecall.componentName" . }}
{{- with .root.Values.kafka.tls.existingSecret }}
- name: kafka-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with (index .root.Values .component).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Probes of every service. The start may take as long as topics and coordinator need (kafka.start_timeout_ms). */}}
{{- define "wirecall.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: health }
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /healthz, port: health }
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* What every pod says alike: (dict "root" $ "component" "dissector"). */}}
{{- define "wirecall.pod" -}}
{{- $own := index .root.Values .component -}}
serviceAccountName: {{ include "wirecall.serviceAccountName" . }}
automountServiceAccountToken: {{ eq .component "watcher" }}
# Variables of services' addresses would be many, and of no use.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spreads the replicas of a component over nodes and zones. */}}
{{- define "wirecall.spread" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "wirecall.selectorLabels" $ | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Security of the services that need nothing from the node: fits the "restricted" Pod Security Standard. */}}
{{- define "wirecall.restrictedPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "wirecall.restrictedContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{/* Annotations of every pod: a changed configuration rolls the pods. */}}
{{- define "wirecall.podAnnotations" -}}
checksum/config: {{ include "wirecall.config" . | sha256sum }}
{{- with (index .root.Values .component).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Partitions that a consumer's replicas share; more replicas than that only wait. */}}
{{- define "wirecall.maxReplicas" -}}
{{- min (int .autoscaling.maxReplicas) (int .partitions) -}}
{{- end -}}
