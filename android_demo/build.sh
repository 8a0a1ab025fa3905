#!/usr/bin/env bash
# Builds and tests the demo without Google's repository; leaves the signed, aligned APK in target/rdi-demo.apk.
# Needs Debian's aapt, zipalign, apksigner, dexdump, android-framework-res, maven, a JDK 17; PYTHON (default python) with
# rdi-tf, whose answers the tests compare with. SKIP_TESTS=1 builds an app with another network than ours, which the tests
# know by its figures. For Android Studio there is the Gradle project beside this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python}
skip_tests=$([[ -n ${SKIP_TESTS:-} ]] && echo true || echo false)
framework=/usr/share/android-framework-res/framework-res.apk
abis=(arm64-v8a armeabi-v7a x86_64)

for tool in aapt aapt2 zipalign apksigner dexdump mvn javac keytool; do
    command -v "$tool" >/dev/null || {
        echo "android_demo: $tool is missing; apt-get install aapt zipalign apksigner dexdump android-framework-res maven" \
            "openjdk-17-jdk-headless" >&2
        exit 1
    }
done

setting() { # $1: a value that app/build.gradle sets, so that it stands in one place
    sed -nE "s/^ *$1 +=? *['\"]?([^'\"]+)['\"]?\$/\\1/p" app/build.gradle | grep . || {
        echo "android_demo: no $1 in app/build.gradle" >&2
        exit 1
    }
}

echo "== resources"
rm -rf app/target/gen target/apk
mkdir -p app/target/gen target/apk
# The Gradle plugin puts the package in; it refuses a manifest that has it already.
sed "s#^<manifest #<manifest package=\"$(setting namespace)\" #" app/src/main/AndroidManifest.xml \
    >app/target/AndroidManifest.xml
aapt2 compile --dir app/src/main/res -o app/target/res.zip
aapt2 link -I "$framework" --manifest app/target/AndroidManifest.xml --java app/target/gen \
    --min-sdk-version "$(setting minSdk)" --target-sdk-version "$(setting targetSdk)" \
    --version-code "$(setting versionCode)" --version-name "$(setting versionName)" \
    -A app/src/main/assets -0 .tflite -o app/target/resources.apk app/target/res.zip

echo "== what Python says"
"$PYTHON" reference.py write target/reference 2>target/reference.log || {
    cat target/reference.log >&2
    exit 1
}

echo "== Java: compile and test"
MAVEN_OPTS=${MAVEN_OPTS:--Xmx1g} mvn -B -ntp -q -T1 -DskipTests="$skip_tests" -Dreference="$PWD/target/reference" package >target/maven.log 2>&1 || {
    grep -vE '^(INFO|WARNING): \[' target/maven.log | head -300 >&2
    exit 1
}
if ! $skip_tests; then
    sed -nE 's/^(Tests run: .*)/\1/p' core/target/surefire-reports/*.txt app/target/surefire-reports/*.txt
    if grep -lE 'Skipped: [1-9]' core/target/surefire-reports/*.txt app/target/surefire-reports/*.txt; then
        echo "android_demo: no test may be skipped here" >&2
        exit 1
    fi
    "$PYTHON" reference.py read core/target/benchmark.json
    "$PYTHON" reference.py read app/target/benchmark.json
fi

echo "== APK"
java -Xmx1g -cp app/target/dx.jar com.android.dx.command.Main --dex --min-sdk-version="$(setting minSdk)" \
    --output=target/apk/classes.dex core/target/core-1.0.jar offline/litert/target/litert-classes-1.0.jar \
    app/target/app-1.0.jar
if dexdump -d target/apk/classes.dex | grep -q invoke-custom; then
    echo "android_demo: the dex holds invoke-custom, which crashes on devices: no lambdas, no method references" >&2
    exit 1
fi
for abi in "${abis[@]}"; do
    mkdir -p "target/apk/lib/$abi"
    cp "offline/litert/target/aar/jni/$abi/"*.so "target/apk/lib/$abi/"
done
cp app/target/resources.apk target/unaligned.apk
(cd target/apk && aapt add ../unaligned.apk classes.dex lib/*/*.so >/dev/null)
zipalign -f -p 4 target/unaligned.apk target/rdi-demo.apk
# A throw-away key: good for installing by hand, not for a shop.
[[ -f target/debug.keystore ]] || keytool -genkeypair -keystore target/debug.keystore -storepass android -alias debug \
    -keyalg RSA -validity 10000 -dname CN=debug 2>/dev/null
apksigner sign --ks target/debug.keystore --ks-pass pass:android target/rdi-demo.apk
apksigner verify --min-sdk-version "$(setting minSdk)" target/rdi-demo.apk
zipalign -c -p 4 target/rdi-demo.apk
aapt dump badging target/rdi-demo.apk >target/badging.txt
grep -E '^(package|sdkVersion|targetSdkVersion|launchable-activity|native-code)' target/badging.txt
echo "android_demo/target/rdi-demo.apk: $(stat -c %s target/rdi-demo.apk) bytes"
