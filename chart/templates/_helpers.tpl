{{/* Name of all objects: the release's, with what it is where that does not say it. */}}
{{- define "omjob.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains "omjob-operator" $name) }}{{ $name = printf "%s-omjob-operator" $name }}{{ end }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* By these the operator's pods are found; they never change. */}}
{{- define "omjob.selector" -}}
app.kubernetes.io/name: omjob-operator
app.kubernetes.io/component: omjob-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "omjob.labels" -}}
{{ include "omjob.selector" . }}
app.kubernetes.io/part-of: openmetadata
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "omjob.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* Passes Pod Security "restricted". OpenShift assigns a user, and its SCC refuses another. */}}
{{- define "omjob.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  {{- if not (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
  runAsUser: 65532
  runAsGroup: 65532
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "omjob.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Of both pods: who may pull their image, and where they run. */}}
{{- define "omjob.place" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Rules and their binding to an account, by default one of their name: in each watched namespace, or in all. Call
with context, all, name, account, annotations, rules. */}}
{{- define "omjob.rights" -}}
{{- $all := .all }}
{{- $role := ternary "ClusterRole" "Role" $all }}
{{- $context := .context }}{{ $name := .name }}{{ $annotations := .annotations }}{{ $rules := .rules }}
{{- $account := .account | default .name }}
{{- range $ns := ternary (list "") $context.Values.watchNamespaces $all }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $role }}
metadata:
  name: {{ $name }}
  {{- with $ns }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "omjob.labels" $context | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
rules:
  {{- $rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $role }}Binding
metadata:
  name: {{ $name }}
  {{- with $ns }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "omjob.labels" $context | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $role }}
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $account }}
    namespace: {{ $context.Release.Namespace }}
{{- end }}
{{- end }}
