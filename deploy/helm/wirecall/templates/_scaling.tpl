{{/* What scales a consumer, and what protects it: (dict "root" $ "component" "dissector" "topic" "segments"). */}}
{{- define "wirecall.scaling" -}}
{{- $own := index .root.Values .component -}}
{{- $name := include "wirecall.componentName" . -}}
{{- $max := include "wirecall.maxReplicas" (dict "autoscaling" $own.autoscaling "partitions" .root.Values.kafka.partitions) -}}
{{- if $own.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "wirecall.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $own.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready must not hold up the draining of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "wirecall.selectorLabels" . | nindent 6 }}
{{- end }}
{{- if eq $own.autoscaling.kind "hpa" }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "wirecall.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: StatefulSet
    name: {{ $name }}
  minReplicas: {{ $own.autoscaling.minReplicas }}
  maxReplicas: {{ $max }}
  behavior:
    {{- include "wirecall.scalingBehavior" $own.autoscaling | nindent 4 }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $own.autoscaling.targetCpuPercent }}
{{- else if eq $own.autoscaling.kind "keda" }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "wirecall.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: StatefulSet
    name: {{ $name }}
  # Never zero: the marker of the last transaction is a lag of one for each partition, for ever.
  minReplicaCount: {{ max 1 (int $own.autoscaling.minReplicas) }}
  maxReplicaCount: {{ $max }}
  cooldownPeriod: {{ $own.autoscaling.stabilizationSeconds }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "wirecall.scalingBehavior" $own.autoscaling | nindent 8 }}
  triggers:
    - type: kafka
      metadata:
        bootstrapServers: {{ .root.Values.kafka.bootstrapServers | quote }}
        consumerGroup: {{ $own.groupId | quote }}
        topic: {{ include "wirecall.topic" (list .root .topic) | quote }}
        lagThreshold: {{ $own.autoscaling.lagThreshold | int64 | quote }}
        # Above the lag that transaction markers leave behind.
        activationLagThreshold: {{ add 1 (int64 .root.Values.kafka.partitions) | quote }}
        offsetResetPolicy: earliest
        # A partition that cannot get on gains nothing from more replicas.
        excludePersistentLag: "true"
        limitToPartitionsWithLag: "true"
        allowIdleConsumers: "false"
        {{- if .root.Values.kafka.tls.enabled }}
        tls: enable
        {{- end }}
      {{- with $own.autoscaling.authenticationRef }}
      authenticationRef:
        name: {{ . }}
      {{- end }}
{{- end }}
{{- end -}}

{{/* Up at once, down slowly: every change is a rebalance, and a dissector that gets a partition replays to its state. */}}
{{- define "wirecall.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 60
scaleDown:
  stabilizationWindowSeconds: {{ .stabilizationSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}
