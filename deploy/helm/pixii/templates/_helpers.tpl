{{- define "pixii.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pixii.labels" -}}
app.kubernetes.io/name: pixii
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pixii.metadata" -}}
name: {{ include "pixii.name" .root }}-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pixii.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "pixii.account" -}}
{{- default (include "pixii.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "pixii.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- /* What every container has: nobody's user, nothing to write but the volumes. */ -}}
{{- define "pixii.container" -}}
{{ include "pixii.image" . }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
env:
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "pixii.pod" -}}
serviceAccountName: {{ default (include "pixii.account" .root) .account }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* The sleep before SIGTERM, the drain, and some seconds for the rest. */}}
terminationGracePeriodSeconds: {{ add .values.drainSeconds 20 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 0
  fsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Nobody is sent here any more when the process hears of its end: endpoints are taken back meanwhile. */ -}}
{{- define "pixii.lifecycle" -}}
lifecycle:
  preStop:
    sleep:
      seconds: 5
{{- end -}}

{{- define "pixii.clusterArgs" -}}
- --discovery=kubernetes
- --namespace={{ .Release.Namespace }}-{{ include "pixii.name" . }}
- --log-format={{ .Values.logFormat }}
{{- end -}}

{{- define "pixii.probes" -}}
livenessProbe:
  httpGet:
    path: /live
    port: {{ .port }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: {{ .ready }}
    port: {{ .port }}
  periodSeconds: 5
  timeoutSeconds: 5
startupProbe:
  httpGet:
    path: /live
    port: {{ .port }}
  periodSeconds: 5
  failureThreshold: {{ .startTries }}
{{- end -}}

{{- define "pixii.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "pixii.metadata" . | nindent 2 }}
spec:
  type: {{ .type }}
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector:
    {{- include "pixii.labels" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - name: {{ .name }}
      port: {{ .port }}
      targetPort: {{ .name }}
      protocol: TCP
      {{- with .appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
    {{- end }}
{{- end -}}
